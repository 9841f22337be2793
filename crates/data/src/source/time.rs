//! Dates and times in ISO 8601, as files hold them: no other form is guessed, because 01/02/2013 is two different days.

/// Days since 1970-01-01.
pub(crate) fn parse_date(text: &str) -> Option<i32> {
    let (days, rest) = date(text.as_bytes())?;
    rest.is_empty().then_some(days)
}

/// Microseconds since the epoch of an instant: the zone has to be there.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    let (local, rest) = local(text.as_bytes())?;
    local.checked_sub(zone(rest)?)
}

/// Microseconds since 1970-01-01 00:00 on a wall clock: no zone may be there.
pub(crate) fn parse_datetime(text: &str) -> Option<i64> {
    let (local, rest) = local(text.as_bytes())?;
    rest.is_empty().then_some(local)
}

fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
}

fn date(text: &[u8]) -> Option<(i32, &[u8])> {
    let (date, rest) = text.split_at_checked(10)?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let (year, month, day) = (number(&[*y1, *y2, *y3, *y4])?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Days from the civil calendar, after Howard Hinnant: years begin in March, so that the leap day is the last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((i32::try_from(days).ok()?, rest))
}

/// A date, `T` or a space, hours and minutes, seconds and their fraction if they are there.
fn local(text: &[u8]) -> Option<(i64, &[u8])> {
    let (days, rest) = date(text)?;
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, rest @ ..] = rest else { return None };
    let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    let mut seconds = 0;
    let mut micros = 0;
    let mut rest = rest;
    if let [b':', s1, s2, after @ ..] = rest {
        seconds = number(&[*s1, *s2])?;
        rest = after;
        if let [b'.' | b',', after @ ..] = rest {
            let digits = after.iter().take_while(|b| b.is_ascii_digit()).count();
            // Beyond microseconds a value would not read back as it was written.
            let (fraction, after) = after.split_at_checked(digits)?;
            if digits == 0 || fraction.iter().skip(6).any(|b| *b != b'0') {
                return None;
            }
            micros = fraction.iter().chain(b"000000").take(6).fold(0, |n, b| n * 10 + i64::from(b - b'0'));
            rest = after;
        }
    }
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = i64::from(days) * 86_400 + hours * 3600 + minutes * 60 + seconds;
    Some((seconds * 1_000_000 + micros, rest))
}

/// Microseconds east of UTC.
fn zone(text: &[u8]) -> Option<i64> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    if matches!(text, b"Z" | b"z" | b"UTC") {
        return Some(0);
    }
    let (sign, text) = match text {
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match text {
        [h1, h2] => (number(&[*h1, *h2])?, 0),
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_offset_moves_the_instant() {
        assert_eq!(parse_timestamp("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse_timestamp("1970-01-01 00:00Z"), Some(0));
        assert_eq!(parse_timestamp("1970-01-01T00:00:00"), None);
        assert_eq!(parse_datetime("1970-01-01T00:00:00Z"), None);
        assert_eq!(parse_datetime("1970-01-01 00:00:00.000001"), Some(1));
        assert_eq!(parse_datetime("1970-01-01 00:00:00.0000001"), None);
    }

    proptest! {
        #[test]
        fn it_reads_what_arrow_reads(year in 1700i32..2200, month in 1u32..=13, day in 1u32..=32, second in 0u32..86_500, micro in 0u32..1_000_000) {
            let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
            let text = format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{micro:06}");
            let theirs = string_to_timestamp_nanos(&text).ok().map(|n| n.div_euclid(1000));
            prop_assert_eq!(parse_datetime(&text), theirs);
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC{0,32}") {
            let _ = (parse_date(&text), parse_timestamp(&text), parse_datetime(&text));
        }
    }
}

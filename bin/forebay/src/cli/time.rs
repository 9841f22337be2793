//! Points in time as people read and write them, in UTC.

use contract::{Clock as _, SystemClock, UnixMillis};

use crate::config::units;

const DAY_MS: i64 = 86_400_000;

/// Now.
pub(super) fn now() -> UnixMillis {
    SystemClock::default().wall()
}

/// A length of time in whole milliseconds.
pub(super) fn millis(time: units::Time) -> i64 {
    i64::try_from(time.0.as_millis()).unwrap_or(i64::MAX)
}

/// `2026-01-31T12:00:00Z`.
pub(super) fn show(at: UnixMillis) -> String {
    let second = at.0.rem_euclid(DAY_MS) / 1000;
    format!("{}T{:02}:{:02}:{:02}Z", date(at.utc_day()), second / 3600, second / 60 % 60, second % 60)
}

/// `2026-01-31`, from whole days since the epoch. (Years begin in March here, so that leap days come last.)
pub(super) fn date(day: i64) -> String {
    let shifted = day.saturating_add(719_468);
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Whole days since the epoch, from `2026-01-31`. `None` when there is no such day.
pub(super) fn day(text: &str) -> Option<i64> {
    if text.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return None;
    }
    let mut parts = text.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, of_month) = (parts.next()??, parts.next()??, parts.next()??);
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + of_month - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    let day = era * 146_097 + of_era - 719_468;
    // The thirteenth month and the 30th of February read back as another day.
    (date(day) == text).then_some(day)
}

/// The start of a range: a length of time before now (`7d`) or the beginning of a day (`2026-01-31`).
pub(super) fn since(text: &str, now: UnixMillis) -> Option<UnixMillis> {
    if let Some(day) = day(text) {
        return Some(UnixMillis(day * DAY_MS));
    }
    let back = text.parse::<units::Time>().ok()?;
    Some(UnixMillis(now.0.saturating_sub(millis(back))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!((date(0), day("1970-01-01")), ("1970-01-01".into(), Some(0)));
        assert_eq!((date(19_782), day("2024-02-29")), ("2024-02-29".into(), Some(19_782)));
        assert_eq!(show(UnixMillis(86_399_999)), "1970-01-01T23:59:59Z");
    }

    #[test]
    fn a_day_that_is_none_is_refused() {
        for text in ["2023-02-29", "2024-13-01", "2024-00-10", "2024-1-01", "24-01-01", "-024-01-01", "today"]
        {
            assert_eq!(day(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_starts_so_long_ago_or_on_a_day() {
        let now = UnixMillis(10 * DAY_MS + 5);
        assert_eq!(since("7d", now), Some(UnixMillis(3 * DAY_MS + 5)));
        assert_eq!(since("1970-01-03", now), Some(UnixMillis(2 * DAY_MS)));
        assert_eq!(since("soon", now), None);
    }

    proptest! {
        #[test]
        fn a_date_is_read_back(n in -719_000i64..2_900_000) {
            prop_assert_eq!(day(&date(n)), Some(n));
        }

        #[test]
        fn reading_a_date_never_panics(text in "\\PC{0,12}|[0-9-]{10}") {
            day(&text);
        }
    }
}

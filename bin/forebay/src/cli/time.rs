//! Points in time as people read and write them, in UTC.

use contract::{Clock as _, Date, SystemClock, UnixMillis};

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
    at.rfc3339()
}

/// `2026-01-31`, from whole days since the epoch.
pub(super) fn date(day: i64) -> String {
    Date::of_day(day).to_string()
}

/// Whole days since the epoch, from `2026-01-31`. `None` when there is no such day.
pub(super) fn day(text: &str) -> Option<i64> {
    if text.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
        return None;
    }
    let mut parts = text.splitn(3, '-').map(|p| p.parse::<i64>().ok());
    let (year, month, of_month) = (parts.next()??, parts.next()??, parts.next()??);
    let day = Date { year, month, day: of_month }.day();
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

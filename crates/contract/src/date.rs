//! Days as dates of the civil calendar (proleptic Gregorian, UTC), after Howard Hinnant's `civil_from_days`. Pure.

use std::fmt;

use crate::UnixMillis;

/// Days of 400 years.
const ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// A date. Its fields may be out of range when a person wrote them; [`Date::day`] of such a date is another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// The year.
    pub year: i64,
    /// From 1.
    pub month: i64,
    /// The day of the month, from 1.
    pub day: i64,
}

impl Date {
    /// The date of a day, counted from 1970-01-01.
    pub fn of_day(day: i64) -> Date {
        let shifted = day.saturating_add(EPOCH);
        // Years begin in March here, so that leap days come last.
        let (era, of_era) = (shifted.div_euclid(ERA), shifted.rem_euclid(ERA));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Date {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
        }
    }

    /// Its day, counted from 1970-01-01.
    pub fn day(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let from_march = self.month + if self.month > 2 { -3 } else { 9 };
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * from_march + 2) / 5 + self.day - 1;
        era * ERA + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - EPOCH
    }
}

impl fmt::Display for Date {
    /// `2026-01-31`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

impl UnixMillis {
    /// `2026-01-31T12:00:00Z`, the second begun.
    pub fn rfc3339(self) -> String {
        let second = self.0.rem_euclid(86_400_000) / 1_000;
        let (h, m, s) = (second / 3_600, second / 60 % 60, second % 60);
        format!("{}T{h:02}:{m:02}:{s:02}Z", Date::of_day(self.utc_day()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_day_has_one_date_and_a_date_one_day(day in -10_000_000i64..10_000_000) {
            let date = Date::of_day(day);
            prop_assert_eq!(date.day(), day);
            prop_assert!(date < Date::of_day(day + 1) && (1..=12).contains(&date.month) && (1..=31).contains(&date.day));
        }
    }
}

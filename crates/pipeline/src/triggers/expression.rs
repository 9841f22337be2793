//! The words of a cron expression: which days and which seconds of a day it names, without any zone.
//!
//! Five fields, or six with seconds first, or `@hourly` and its like. `croner` reads each; what it takes too kindly (an empty
//! place in a list, a month's name among the hours) is refused before, and every refusal says which field is at fault.

use chrono::{Datelike, NaiveDate};
use croner::{Cron, Weekday};

use super::schedule::ScheduleError;

/// Longer than anything that a person writes.
const LONGEST: usize = 256;
/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;
/// The days from the first of January of the year 1 to the first of 1970.
const EPOCH: i64 = 719_163;

const NICKNAMES: [(&str, &str); 6] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What a field is called, which letters it may hold, and what a person writes there.
struct Field {
    name: &'static str,
    words: &'static [&'static str],
    expected: &'static str,
}

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", "L"];

const FIELDS: [Field; 6] = [
    Field { name: "second", words: &[], expected: "0-59, `*`, `*/n`, `a-b`, `a-b/n`, lists with commas" },
    Field { name: "minute", words: &[], expected: "0-59, `*`, `*/n`, `a-b`, `a-b/n`, lists with commas" },
    Field { name: "hour", words: &[], expected: "0-23, `*`, `*/n`, `a-b`, `a-b/n`, lists with commas" },
    Field {
        name: "day of the month",
        words: &["L", "W", "LW"],
        expected: "1-31, `*`, `*/n`, `a-b`, `a-b/n`, `L` (the last), `15W` (the weekday nearest), lists with commas",
    },
    Field { name: "month", words: MONTHS, expected: "1-12 or JAN-DEC, `*`, `*/n`, `a-b`, lists with commas" },
    Field {
        name: "day of the week",
        words: DAYS,
        expected: "0-7 or SUN-SAT (0 and 7 are Sunday), `*`, `a-b`, `5#2` (the second Friday), `5L` (the last), lists with commas",
    },
];

/// The times of a day, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    hours: u64,
    minutes: u64,
    seconds: u64,
}

/// A cron expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    cron: Cron,
    times: Times,
    /// Whether its hours are named, not `*` or `*/n`.
    pub(super) fixed: bool,
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Expression, ScheduleError> {
        let written = text.trim();
        let lower = written.to_ascii_lowercase();
        let expanded = NICKNAMES.iter().find(|(name, _)| *name == lower).map_or(written, |(_, e)| e);
        let mut parts: Vec<&str> = expanded.split_whitespace().collect();
        if !matches!(parts.len(), 5 | 6) || written.len() > LONGEST {
            return Err(ScheduleError::Fields { written: shortened(written), found: parts.len() });
        }
        if parts.len() == 5 {
            parts.insert(0, "0");
        }
        for (index, (field, part)) in FIELDS.iter().zip(&parts).enumerate() {
            if !takes(field, index, part) {
                return Err(ScheduleError::Field {
                    field: field.name,
                    written: shortened(part),
                    expected: field.expected,
                });
            }
        }
        let unreadable = |_| ScheduleError::Fields { written: shortened(written), found: parts.len() };
        let cron = read(&parts.join(" ")).map_err(unreadable)?;
        let bits = |values: Vec<u16>| values.iter().filter(|v| **v < 64).fold(0_u64, |all, v| all | 1 << v);
        let pattern = &cron.pattern;
        let times = Times {
            hours: bits(pattern.hours.values()),
            minutes: bits(pattern.minutes.values()),
            seconds: bits(pattern.seconds.values()),
        };
        let fixed = parts.get(2).is_some_and(|hours| !hours.starts_with('*'));
        Ok(Expression { cron, times, fixed })
    }

    /// The first local second at or after `from` and before `to` that it names. Both count from 1970 as if there were no zones.
    pub(super) fn first(&self, from: i64, to: i64) -> Option<i64> {
        let mut day = from.div_euclid(DAY);
        while day * DAY < to {
            if self.names(day) {
                let second = u32::try_from((from - day * DAY).max(0)).ok()?;
                if let Some(found) = self.times.first(second) {
                    let found = day * DAY + i64::from(found);
                    return (found < to).then_some(found);
                }
            }
            day += 1;
        }
        None
    }

    /// Whether it names the day, counted from 1970.
    fn names(&self, day: i64) -> bool {
        let date = i32::try_from(day + EPOCH).ok().and_then(NaiveDate::from_num_days_from_ce_opt);
        let Some(date) = date else { return false };
        let (year, month, day) = (date.year(), date.month(), date.day());
        let weekday = Weekday::from_days_from_sunday(date.weekday().num_days_from_sunday());
        let pattern = &self.cron.pattern;
        pattern.month_match(month).unwrap_or(false)
            && pattern.day_match(year, month, day, weekday).unwrap_or(false)
    }
}

impl Times {
    /// The first second of a day at or after `from`.
    fn first(self, from: u32) -> Option<u32> {
        let (hour, minute, second) = (from / 3600, from / 60 % 60, from % 60);
        let (first_minute, first_second) = (lowest(self.minutes, 0)?, lowest(self.seconds, 0)?);
        if self.hours >> hour.min(63) & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(s) = lowest(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + s);
            }
            if let Some(m) = lowest(self.minutes, minute + 1) {
                return Some(hour * 3600 + m * 60 + first_second);
            }
        }
        let hour = lowest(self.hours, hour + 1)?;
        Some(hour * 3600 + first_minute * 60 + first_second)
    }
}

/// The lowest bit at or above `from`.
fn lowest(bits: u64, from: u32) -> Option<u32> {
    let rest = bits.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

fn read(text: &str) -> Result<Cron, croner::errors::CronError> {
    use croner::parser::{CronParser, Seconds, Year};
    CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).build().parse(text)
}

/// Whether a field can be read by itself.
fn takes(field: &Field, index: usize, part: &str) -> bool {
    let known = |word: &str| word.is_empty() || field.words.contains(&word.to_ascii_uppercase().as_str());
    let words = part.split(|c: char| !c.is_alphabetic()).all(known);
    let whole = part.split(',').all(|item| !item.is_empty());
    let mut alone = ["0", "0", "0", "*", "*", "*"];
    if let Some(slot) = alone.get_mut(index) {
        *slot = part;
    }
    words && whole && !part.contains('@') && read(&alone.join(" ")).is_ok()
}

/// At most forty characters of it.
fn shortened(text: &str) -> String {
    if text.chars().count() > 40 { text.chars().take(39).chain(['…']).collect() } else { text.to_owned() }
}

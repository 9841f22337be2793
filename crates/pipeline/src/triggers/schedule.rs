//! When a cron expression comes up in a time zone.
//!
//! The zones are IANA's, compiled in. A clock that is moved forward leaves out local times, and one that is moved back has them
//! twice. As in Vixie's cron, what an expression means then depends on its hours:
//!
//! - **hours are named** (`30 2 * * *`, `0 9-17 * * 1-5`): it comes up when the local clock *first reaches or passes* a time that
//!   it names. A time that is left out comes up once, at the first instant behind the gap; several that are left out together
//!   come up once together. A time that there is twice comes up the first time.
//! - **hours are `*` or `*/n`** (`*/15 * * * *`): it comes up whenever the local clock shows a time that it names: not within a
//!   gap, and both times where there are two.
//!
//! The times of a schedule are strictly increasing instants, so an instant is the whole identity of a slot. A day of the month
//! *and* a day of the week that are both given mean either, as in every cron.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Offset as _, TimeZone as _, Timelike as _};
use chrono_tz::Tz;
use contract::UnixMillis;

use super::expression::{DAY, Expression};

/// The longest that an expression which ever comes up may pause: from one 29th of February on a given day of the week to the
/// next, over a year that is no leap year, are forty years.
const FARTHEST: i64 = 41 * 366 * DAY;
/// Nothing that a zone did earlier than this decides which local times were reached already.
const BACK: i64 = 3 * DAY;

/// Why text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// It has not five or six fields.
    #[error(
        "`{written}` has {found} fields: a cron expression has five (minute hour day month weekday), or six with seconds first"
    )]
    Fields {
        /// What was written.
        written: String,
        /// How many fields that is.
        found: usize,
    },
    /// A field cannot be read.
    #[error("the {field} `{written}` of the cron expression cannot be read: it is {expected}")]
    Field {
        /// Which.
        field: &'static str,
        /// What was written there.
        written: String,
        /// What can be written there.
        expected: &'static str,
    },
    /// Each field is right, and no day has them all.
    #[error("the cron expression never comes up: no day is as it says")]
    Never,
    /// There is no such zone.
    #[error("there is no time zone `{0}`: zones are named as IANA does, such as UTC or Europe/Berlin")]
    Zone(String),
}

/// A cron expression in a time zone. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    expression: Arc<Expression>,
    zone: Tz,
    written: String,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({self})")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.written, self.zone.name())
    }
}

/// The name of a zone as IANA writes it, if there is one of that name.
fn zone(name: &str) -> Result<Tz, ScheduleError> {
    name.parse().map_err(|_| ScheduleError::Zone(name.chars().take(64).collect()))
}

/// The names of all zones.
pub fn zones() -> impl Iterator<Item = &'static str> + Clone {
    chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())
}

/// An instant as the clocks of a zone show it, with the offset from UTC: `2026-03-29T03:00:00+02:00`. `None` for a zone or a time
/// that there is not.
pub fn local_time(at: UnixMillis, in_zone: &str) -> Option<String> {
    let utc = DateTime::from_timestamp_millis(at.0)?;
    let offset = zone(in_zone).ok()?.offset_from_utc_datetime(&utc.naive_utc()).fix();
    let shown = utc.with_timezone(&offset);
    let (date, hour, minute, second) = (shown.date_naive(), shown.hour(), shown.minute(), shown.second());
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{offset}"))
}

impl Schedule {
    /// Reads an expression and a zone's name.
    ///
    /// # Errors
    /// See [`ScheduleError`]; also for an expression that never comes up, such as `0 0 30 2 *`.
    pub fn parse(expression: &str, in_zone: &str) -> Result<Schedule, ScheduleError> {
        let written = expression.split_whitespace().collect::<Vec<_>>().join(" ");
        let parsed = Arc::new(Expression::parse(expression)?);
        let schedule = Schedule { expression: parsed, zone: zone(in_zone)?, written };
        match schedule.next(UnixMillis(0)) {
            Some(_) => Ok(schedule),
            None => Err(ScheduleError::Never),
        }
    }

    /// The zone's name.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first time after `after`: a whole second. `None` only near the end of what dates can be named.
    pub fn next(&self, after: UnixMillis) -> Option<UnixMillis> {
        let from = after.0.div_euclid(1000).checked_add(1)?;
        let end = from.checked_add(FARTHEST)?;
        self.search(from, end).and_then(|s| s.checked_mul(1000)).map(UnixMillis)
    }

    /// The last time after `after` and not after `until`.
    pub fn last(&self, after: UnixMillis, until: UnixMillis) -> Option<UnixMillis> {
        let within = |t: &UnixMillis| *t <= until;
        let mut width: i64 = 60_000;
        loop {
            let from = UnixMillis(until.0.saturating_sub(width).max(after.0));
            if let Some(mut found) = self.next(from).filter(within) {
                while let Some(later) = self.next(found).filter(within) {
                    found = later;
                }
                return Some(found);
            }
            if from <= after {
                return None;
            }
            width = width.saturating_mul(2);
        }
    }

    /// Walks over the pieces of time in which the zone's offset does not change, none longer than a day.
    fn search(&self, from: i64, end: i64) -> Option<i64> {
        let (mut at, fixed) = (from.checked_sub(BACK)?, self.expression.fixed);
        let mut offset = self.offset(at)?;
        // Local times before this one were reached.
        let mut reached = at + offset;
        while at < end {
            let until = self.same_until(at, offset)?;
            let (low, high) = (at + offset, until + offset);
            if fixed && low > reached && at >= from && self.expression.first(reached, low).is_some() {
                return Some(at);
            }
            if until > from {
                let start = low.max(from + offset);
                let start = if fixed { start.max(reached) } else { start };
                if let Some(found) = self.expression.first(start, high) {
                    return Some(found - offset);
                }
            }
            reached = reached.max(high);
            at = until;
            offset = self.offset(at)?;
        }
        None
    }

    /// Until when the offset stays as it is, at most a day. No zone changed it twice within a day since clocks are standardised.
    fn same_until(&self, at: i64, offset: i64) -> Option<i64> {
        let (mut same, mut other) = (at, at + DAY);
        if self.offset(other)? == offset {
            return Some(other);
        }
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if self.offset(middle)? == offset {
                same = middle;
            } else {
                other = middle;
            }
        }
        Some(other)
    }

    /// Seconds to add to UTC.
    fn offset(&self, at: i64) -> Option<i64> {
        let utc = DateTime::from_timestamp(at, 0)?.naive_utc();
        Some(i64::from(self.zone.offset_from_utc_datetime(&utc).fix().local_minus_utc()))
    }
}

//! Schedules against a reference that walks a zone's clock minute by minute.

use chrono::{Datelike, Offset, TimeZone, Timelike};
use chrono_tz::{TZ_VARIANTS, Tz};
use contract::UnixMillis;
use pipeline::triggers::{Schedule, ScheduleError, local_time, zones};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

const MINUTE: i64 = 60;
const DAY: i64 = 86_400;
/// 1990 and 2040.
const YEARS: std::ops::Range<i64> = 631_152_000..2_208_988_800;

/// A field as it is meant, and how it is written.
#[derive(Debug, Clone)]
enum Field {
    Any,
    Every(u32),
    Of(Vec<(u32, u32)>),
}

impl Field {
    fn takes(&self, value: u32, lowest: u32) -> bool {
        match self {
            Field::Any => true,
            Field::Every(n) => (value - lowest).is_multiple_of(*n),
            Field::Of(ranges) => ranges.iter().any(|(a, b)| (*a..=*b).contains(&value)),
        }
    }

    fn written(&self) -> String {
        let range = |(a, b): &(u32, u32)| if a == b { a.to_string() } else { format!("{a}-{b}") };
        match self {
            Field::Any => "*".into(),
            Field::Every(n) => format!("*/{n}"),
            Field::Of(ranges) => ranges.iter().map(range).collect::<Vec<_>>().join(","),
        }
    }
}

/// Minute, hour, day of the month, month, day of the week.
#[derive(Debug, Clone)]
struct Meant([Field; 5]);

impl Meant {
    fn written(&self) -> String {
        self.0.iter().map(Field::written).collect::<Vec<_>>().join(" ")
    }

    /// Whether it names a local minute, counted in seconds from 1970 as if there were no zones.
    fn names(&self, local: i64) -> bool {
        let Meant([minute, hour, day, month, weekday]) = self;
        let at = chrono::DateTime::from_timestamp(local, 0).unwrap().naive_utc();
        let of_week = at.weekday().num_days_from_sunday();
        let (by_day, by_weekday) = (day.takes(at.day(), 1), weekday.takes(of_week, 0));
        let dated = match (day, weekday) {
            (Field::Any, _) => by_weekday,
            (_, Field::Any) => by_day,
            _ => by_day || by_weekday,
        };
        minute.takes(at.minute(), 0) && hour.takes(at.hour(), 0) && month.takes(at.month(), 1) && dated
    }

    /// All times of it in a window, by looking at every minute.
    fn walked(&self, zone: Tz, from: i64, to: i64) -> Vec<i64> {
        let fixed = matches!(self.0[1], Field::Of(_));
        let mut found = Vec::new();
        let mut reached: Option<i64> = None;
        let mut at = from - 3 * DAY;
        while at < to {
            let local = at + offset(zone, at);
            let named = if fixed {
                // Every local minute that the clock reaches or passes for the first time.
                let first = reached.map_or(local, |r| r + MINUTE);
                (first..=local).step_by(60).any(|minute| self.names(minute))
            } else {
                self.names(local)
            };
            if named && at >= from {
                found.push(at);
            }
            reached = Some(reached.map_or(local, |r| r.max(local)));
            at += MINUTE;
        }
        found
    }
}

fn offset(zone: Tz, at: i64) -> i64 {
    let utc = chrono::DateTime::from_timestamp(at, 0).unwrap().naive_utc();
    i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

/// When the offset of a zone changes, day by day.
fn changes(zone: Tz, within: std::ops::Range<i64>) -> Vec<i64> {
    let days: Vec<(i64, i64)> = within.step_by(86_400).map(|day| (day, offset(zone, day))).collect();
    days.windows(2).filter(|d| d[0].1 != d[1].1).map(|d| d[0].0).collect()
}

fn found(schedule: &Schedule, from: i64, to: i64) -> Vec<i64> {
    let mut all = Vec::new();
    let mut after = UnixMillis(from * 1000 - 1);
    while let Some(next) = schedule.next(after).filter(|n| n.0 < to * 1000) {
        assert!(next > after && next.0 % 1000 == 0);
        all.push(next.0 / 1000);
        after = next;
    }
    all
}

fn field(lowest: u32, highest: u32, any: u32) -> impl Strategy<Value = Field> {
    let ranges = prop::collection::vec((lowest..=highest, lowest..=highest), 1..4)
        .prop_map(|r| Field::Of(r.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect()));
    let single = subsequence((lowest..=highest).collect::<Vec<_>>(), 1..=3)
        .prop_map(|v| Field::Of(v.into_iter().map(|n| (n, n)).collect()));
    prop_oneof![
        any => Just(Field::Any),
        1 => (2..=highest.max(2)).prop_map(Field::Every),
        1 => ranges,
        4 => single,
    ]
}

fn meant() -> impl Strategy<Value = Meant> {
    (field(0, 59, 1), field(0, 23, 2), field(1, 31, 8), field(1, 12, 12), field(0, 6, 8))
        .prop_map(|(a, b, c, d, e)| Meant([a, b, c, d, e]))
}

/// A zone, and a moment near a change of its clocks as often as not.
fn moment() -> impl Strategy<Value = (Tz, i64)> {
    (any::<Index>(), YEARS, any::<Option<Index>>(), -2 * DAY..0).prop_map(|(zone, at, change, before)| {
        let zone = *zone.get(&TZ_VARIANTS);
        let year = (at - 400 * DAY).max(YEARS.start)..at;
        let near = change.and_then(|i| {
            let all = changes(zone, year);
            (!all.is_empty()).then(|| *i.get(&all) + before)
        });
        (zone, near.unwrap_or(at).div_euclid(60) * 60)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn a_schedule_comes_up_when_a_walk_over_the_zones_clock_says((zone, from) in moment(), meant in meant()) {
        let to = from + 5 * DAY;
        match Schedule::parse(&meant.written(), zone.name()) {
            Ok(schedule) => {
                let all = found(&schedule, from, to);
                prop_assert_eq!(&all, &meant.walked(zone, from, to), "{} {}", meant.written(), zone.name());
                let (after, until) = (UnixMillis(from * 1000 - 1), UnixMillis(to * 1000 - 1));
                prop_assert_eq!(schedule.last(after, until).map(|l| l.0 / 1000), all.last().copied());
            }
            Err(problem) => {
                prop_assert_eq!(problem, ScheduleError::Never);
                prop_assert!(meant.walked(zone, from, to).is_empty());
            }
        }
    }

    #[test]
    fn any_text_is_a_schedule_or_a_reason(text in "[-*/,0-9A-Za-z#@? ]{0,24}", zone in "[A-Za-z/_]{0,12}") {
        for (text, zone) in [(text.as_str(), "Europe/Berlin"), ("0 3 * * *", zone.as_str())] {
            if let Ok(schedule) = Schedule::parse(text, zone) {
                let next = schedule.next(UnixMillis(0)).unwrap();
                prop_assert!(schedule.next(next).unwrap() > next);
            }
        }
    }
}

/// Each change of the clocks of each zone, with expressions that fall into most gaps and folds. Zones that are names of one
/// another are looked at once.
#[test]
fn every_change_of_every_zone_is_passed_as_a_walk_says() {
    let daily = |minute: u32, hour: u32| {
        let one = |n| Field::Of(vec![(n, n)]);
        Meant([one(minute), one(hour), Field::Any, Field::Any, Field::Any])
    };
    let mut all: Vec<Meant> = [(30, 0), (0, 1), (30, 2), (0, 3)].map(|(m, h)| daily(m, h)).into();
    all.push(Meant([Field::Every(20), Field::Any, Field::Any, Field::Any, Field::Any]));
    let mut seen = std::collections::HashSet::new();
    for (number, zone) in TZ_VARIANTS.iter().enumerate() {
        let changes = changes(*zone, YEARS);
        // All zones; of each, the newest change and some others that differ from zone to zone.
        let some = changes.iter().rev().step_by(29 + number % 7);
        for at in some {
            let (before, after) = (offset(*zone, *at), offset(*zone, at + DAY));
            if !seen.insert((*at, before, after)) {
                continue;
            }
            for meant in &all {
                let schedule = Schedule::parse(&meant.written(), zone.name()).unwrap();
                let (from, to) = (at - DAY / 2, at + DAY * 3 / 2);
                let walked = meant.walked(*zone, from, to);
                assert_eq!(found(&schedule, from, to), walked, "{} {}", meant.written(), zone.name());
            }
        }
    }
}

fn local(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = Schedule::parse(expression, zone).unwrap();
    let after: chrono::DateTime<chrono::Utc> = after.parse().unwrap();
    let next = |at: &UnixMillis| schedule.next(*at);
    let times = std::iter::successors(next(&UnixMillis(after.timestamp_millis())), next);
    times.take(count).map(|at| local_time(at, zone).unwrap()).collect()
}

#[test]
fn a_time_that_is_left_out_comes_up_once_behind_the_gap() {
    let berlin = |expression, count| local(expression, "Europe/Berlin", "2026-03-28T12:00:00Z", count);
    assert_eq!(berlin("30 2 * * *", 2), ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]);
    assert_eq!(
        berlin("*/20 2,3 * * *", 4),
        [
            "2026-03-29T03:00:00+02:00",
            "2026-03-29T03:20:00+02:00",
            "2026-03-29T03:40:00+02:00",
            "2026-03-30T02:00:00+02:00"
        ],
        "three of the second hour, and the first of the third, come up together"
    );
    let hourly = ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"];
    assert_eq!(local("30 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z", 2), hourly);
    // Samoa had no 30th of December.
    assert_eq!(
        local("0 12 * * *", "Pacific/Apia", "2011-12-29T22:30:00Z", 2),
        ["2011-12-31T00:00:00+14:00", "2011-12-31T12:00:00+14:00"]
    );
}

#[test]
fn a_time_that_there_is_twice_comes_up_once_when_its_hour_is_named() {
    let berlin = |expression, count| local(expression, "Europe/Berlin", "2026-10-24T23:30:00Z", count);
    assert_eq!(berlin("30 2 * * *", 2), ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]);
    assert_eq!(
        berlin("30 * * * *", 3),
        ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"]
    );
}

#[test]
fn days_of_months_and_weeks_are_as_in_every_cron() {
    let utc = |expression, count| local(expression, "UTC", "2026-01-31T12:00:00Z", count);
    assert_eq!(utc("0 0 L * *", 1), ["2026-02-28T00:00:00+00:00"]);
    assert_eq!(utc("0 0 * * FRI#2", 1), ["2026-02-13T00:00:00+00:00"]);
    assert_eq!(utc("0 0 15W * *", 1), ["2026-02-16T00:00:00+00:00"]);
    assert_eq!(utc("0 0 1 * 1", 2), ["2026-02-01T00:00:00+00:00", "2026-02-02T00:00:00+00:00"]);
    assert_eq!(utc("@monthly", 1), ["2026-02-01T00:00:00+00:00"]);
    assert_eq!(utc("0 0 29 2 *", 1), ["2028-02-29T00:00:00+00:00"]);
    assert_eq!(utc("*/20 59 23 * * *", 2), ["2026-01-31T23:59:00+00:00", "2026-01-31T23:59:20+00:00"]);
}

#[test]
fn what_is_no_schedule_is_said_by_its_field() {
    let field = |text: &str| match Schedule::parse(text, "UTC") {
        Err(ScheduleError::Field { field, written, .. }) => format!("{field}: {written}"),
        other => format!("{other:?}"),
    };
    assert_eq!(field("61 * * * *"), "minute: 61");
    assert_eq!(field("0 24 * * *"), "hour: 24");
    assert_eq!(field("0 0 32 * *"), "day of the month: 32");
    assert_eq!(field("0 0 * 13 *"), "month: 13");
    assert_eq!(field("0 0 * * 8"), "day of the week: 8");
    assert_eq!(field("0 MON * * *"), "hour: MON");
    assert_eq!(field("1,,2 * * * *"), "minute: 1,,2");
    assert_eq!(field("0 0 * * MONDAY"), "day of the week: MONDAY");
    assert_eq!(field("60 0 0 * * *"), "second: 60");
    assert_eq!(field("0/5 * * * *"), "minute: 0/5");
    let three = Schedule::parse("0 3 *", "UTC").unwrap_err().to_string();
    assert!(three.starts_with("`0 3 *` has 3 fields"), "{three}");
    assert_eq!(Schedule::parse("0 0 30 2 *", "UTC"), Err(ScheduleError::Never));
    assert_eq!(Schedule::parse("0 0 * * *", "Europe/Berln"), Err(ScheduleError::Zone("Europe/Berln".into())));
    assert!(zones().count() > 500 && zones().any(|z| z == "Europe/Berlin"));
}

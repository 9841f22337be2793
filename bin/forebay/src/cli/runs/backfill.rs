//! `forebay runs backfill`: a pipeline, once for each part of a stretch of time. The parts are runs of the lowest lane and of a
//! target of their own: what is asked for meanwhile goes before them.

use clap::ValueEnum;
use contract::Date;
use gateway::RunWanted;
use pipeline::durable::Partition;
use pipeline::runs::Lane;
use serde_json::Value;

use super::super::{Global, time};
use super::follow;
use crate::Error;

/// The most parts of one backfill.
const MOST: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pipeline.
    pipeline: String,
    /// The first day.
    #[arg(long, value_name = "DATE")]
    from: String,
    /// The day behind the last one.
    #[arg(long, value_name = "DATE")]
    to: String,
    /// How long a part is. Stages take it as `{{ partition.start }}`, `{{ partition.end }}` and `{{ partition.key }}`.
    #[arg(long, value_enum, default_value = "month")]
    by: Every,
    /// How many stages may be under way at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    parallel: u32,
    /// What each run is given besides.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = super::super::run::param)]
    params: Vec<(String, Value)>,
}

/// How long a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Every {
    Day,
    Week,
    Month,
    Year,
}

impl Every {
    fn word(self) -> &'static str {
        match self {
            Every::Day => "day",
            Every::Week => "week",
            Every::Month => "month",
            Every::Year => "year",
        }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let day = |text: &str, name: &str| {
        let help = format!("write --{name} as a date, such as 2026-01-31");
        time::day(text).ok_or_else(|| Error::new(format!("`{text}` is no date"), help))
    };
    let (from, to) = (day(&args.from, "from")?, day(&args.to, "to")?);
    let parts = parts(from, to, args.by);
    if parts.is_empty() || parts.len() > MOST {
        let message = format!(
            "from {} to {} there are {} parts of a {}",
            args.from,
            args.to,
            parts.len(),
            args.by.word()
        );
        return Err(Error::new(message, format!("give 1 to {MOST}: --to is the day behind the last one")));
    }
    let name = format!("{}:{}", args.pipeline, time::now().0);
    let wanted = parts.into_iter().map(|partition| RunWanted {
        pipeline: args.pipeline.clone(),
        params: args.params.iter().cloned().collect(),
        partition: Some(partition),
        lane: Lane::Low,
        backfill: Some(name.clone()),
        parallel: Some(args.parallel),
        ..RunWanted::default()
    });
    follow::started(global, wanted.collect())
}

/// The parts of a stretch of days; the last one may be cut.
fn parts(from: i64, to: i64, every: Every) -> Vec<Partition> {
    let mut parts = Vec::new();
    let mut start = from;
    while start < to && parts.len() <= MOST {
        let date = Date::of_day(start);
        let next = match every {
            Every::Day => start + 1,
            Every::Week => start + 7,
            Every::Month if date.month == 12 => Date { year: date.year + 1, month: 1, day: 1 }.day(),
            Every::Month => Date { month: date.month + 1, day: 1, ..date }.day(),
            Every::Year => Date { year: date.year + 1, month: 1, day: 1 }.day(),
        };
        let end = next.min(to);
        let text = time::date(start);
        let key = match every {
            Every::Month => text.get(..7).unwrap_or(&text).to_owned(),
            Every::Year => text.get(..4).unwrap_or(&text).to_owned(),
            _ => text.clone(),
        };
        parts.push(Partition { key, start: text, end: time::date(end) });
        start = end;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_year_has_twelve_months_that_begin_on_their_first_day() {
        let (from, to) = (time::day("2013-01-01").unwrap(), time::day("2014-01-01").unwrap());
        let parts = parts(from, to, Every::Month);
        let keys: Vec<&str> = parts.iter().map(|p| p.key.as_str()).collect();
        assert_eq!((keys.len(), keys[1], parts[1].start.as_str()), (12, "2013-02", "2013-02-01"));
        assert_eq!(parts[1].end, "2013-03-01");
    }

    proptest! {
        #[test]
        fn parts_cover_the_stretch_once_and_in_order(from in 0i64..30_000, days in 1i64..900, every in 0usize..4) {
            let every = [Every::Day, Every::Week, Every::Month, Every::Year][every];
            let parts = parts(from, from + days, every);
            prop_assert_eq!(&parts[0].start, &time::date(from));
            prop_assert_eq!(&parts[parts.len() - 1].end, &time::date(from + days));
            for two in parts.windows(2) {
                prop_assert_eq!(&two[0].end, &two[1].start);
                prop_assert!(two[0].key != two[1].key);
            }
        }
    }
}

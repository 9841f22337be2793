//! One look at what a monitor watches: whether there is a new version, which windows of it have ended, and what is to be said of them.

use contract::UnixMillis;
use data::{At, Dataset, Sketched, Span, Warehouse, Watching};
use tokio::sync::OnceCell;
use watch::alarm;
use watch::drift::Reference;
use watch::monitor::{Figure, Monitor, Window};
use watch::report::{ColumnReport, DriftReport, Shape, Side};

use super::settings::{self, Against};
use crate::config::monitor::{DriftConfig, MonitorConfig, TestConfig};

/// Windows that are looked at in one look, at most: of more that have ended, the newest.
const WINDOWS: i64 = 24;

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// The version that was looked at.
    pub version: u64,
    /// Its newest row.
    pub newest: Option<UnixMillis>,
    /// The windows that have ended and were not looked at before, the oldest first.
    pub windows: Vec<Window>,
    /// What is told of the last of them.
    pub report: Option<DriftReport>,
}

/// Looks at the dataset of a monitor. Nothing when there is no version that was not looked at.
///
/// # Errors
/// Why it cannot be looked at, in words for who wrote the monitor.
pub async fn look(
    warehouse: &Warehouse,
    config: &MonitorConfig,
    monitor: &Monitor,
    now: UnixMillis,
) -> Result<Option<Found>, String> {
    let failed = |e: data::Error| format!("cannot {e}");
    let dataset = warehouse.dataset(&config.watch).map_err(failed)?;
    let version = dataset.resolve(&At::Newest).await.map_err(failed)?;
    if monitor.looked().is_some_and(|(_, looked)| looked == version) && monitor.problem().is_none() {
        return Ok(None);
    }
    let at = At::Version(version);
    let time = match &config.time {
        Some(time) => time.clone(),
        None => only_time(&dataset, &at).await?,
    };
    let newest = dataset.newest(&at, &time, settings::heard(config)).await.map_err(failed)?;
    // A time that is yet to come is no reason to look at windows that have not ended.
    let newest = newest.map(|newest| newest.min(now.0));
    let mut found = Found { version, newest: newest.map(UnixMillis), ..Found::default() };
    if let (Some(drift), Some(newest)) = (&config.drift, newest) {
        let source = Source { warehouse, dataset, version, time, reference: OnceCell::new() };
        let length = settings::millis(drift.window).max(1);
        let last = newest.div_euclid(length);
        let seen = monitor.seen().map_or(last - 1, |seen| seen.0.div_euclid(length));
        let first = seen.max(last.saturating_sub(WINDOWS));
        for end in first + 1..=last {
            let (window, report) = source.window(config, drift, monitor, (end * length, now), &found).await?;
            found.windows.push(window);
            found.report = report.or(found.report);
        }
    }
    Ok(Some(found))
}

pub(super) async fn only_time(dataset: &Dataset, at: &At) -> Result<String, String> {
    let times = dataset.times(at).await.map_err(|e| format!("cannot {e}"))?;
    match times.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(format!("`{}` has no column of times", dataset.name())),
        more => Err(format!(
            "`{}` has several columns of times: name one with `time`: {}",
            dataset.name(),
            more.join(", ")
        )),
    }
}

/// The only one of several.
fn one(mut all: Vec<Sketched>) -> Sketched {
    all.pop().unwrap_or_default()
}

struct Source<'a> {
    warehouse: &'a Warehouse,
    dataset: Dataset,
    version: u64,
    time: String,
    /// What windows are compared with, and by which columns, where that is a version: of that there is one for all of them.
    reference: OnceCell<(String, Sketched, Watching)>,
}

impl Source<'_> {
    /// The window that ends then.
    async fn window(
        &self,
        config: &MonitorConfig,
        drift: &DriftConfig,
        monitor: &Monitor,
        (end, now): (i64, UnixMillis),
        found: &Found,
    ) -> Result<(Window, Option<DriftReport>), String> {
        let from = end - settings::millis(drift.window);
        let (before, is) = self.both(drift, settings::heard(config), (from, end)).await?;
        let mut window = Window { end: UnixMillis(end), rows: is.rows, figures: Vec::new() };
        let report = self.report(config, (before, &is), (from, end, now))?;
        if let Some(report) = &report {
            window.figures = figures(monitor.name(), settings::test(config), report);
        }
        if config.volume.is_some() {
            let earlier = monitor.counts().iter().map(|(_, n)| *n);
            let earlier: Vec<u64> = earlier.chain(found.windows.iter().map(|w| w.rows)).collect();
            window.figures.extend(volume(monitor.name(), &earlier, is.rows));
        }
        Ok((window, report))
    }

    /// What was and what is.
    async fn both(
        &self,
        drift: &DriftConfig,
        filter: Option<&str>,
        (from, end): (i64, i64),
    ) -> Result<((String, Sketched), Sketched), String> {
        let failed = |e: data::Error| format!("cannot {e}");
        let mut what = settings::watching(drift);
        what.filter = filter.map(str::to_owned);
        let span = |from: i64, to: i64| Span { column: self.time.clone(), from: Some(from), to: Some(to) };
        let (at, is) = (At::Version(self.version), span(from, end));
        match settings::against(drift) {
            Against::Before(long) => {
                let before = from.saturating_sub(long);
                let spans = [span(before, from), is];
                let mut both = self.dataset.sketched(&at, &what, &spans).await.map_err(failed)?.into_iter();
                let name = format!("{} from {}", self.dataset.name(), UnixMillis(before).rfc3339());
                Ok(((name, both.next().unwrap_or_default()), both.next().unwrap_or_default()))
            }
            Against::Version(name, of) => {
                let looked = self.reference.get_or_try_init(|| self.sum_up((&name, &of), what));
                let (name, before, what) = looked.await?.clone();
                let is = self.dataset.sketched(&at, &what, &[is]).await.map_err(failed)?;
                Ok(((name, before), one(is)))
            }
            Against::Wrong(why) => Err(why),
        }
    }

    /// What windows are compared with where that is a version, and by what.
    async fn sum_up(
        &self,
        (name, of): (&str, &At),
        mut what: Watching,
    ) -> Result<(String, Sketched, Watching), String> {
        let failed = |e: data::Error| format!("cannot {e}");
        let reference = self.warehouse.dataset(name).map_err(failed)?;
        let version = reference.resolve(of).await.map_err(failed)?;
        let mut was = what.clone();
        if reference.name() != self.dataset.name() {
            was.filter = None;
            // Of another dataset what both have is compared: a label is not among what is asked.
            let there = reference.column_names(&At::Version(version)).await.map_err(failed)?;
            let here = self.dataset.column_names(&At::Version(self.version)).await.map_err(failed)?;
            let both = here.into_iter().filter(|c| there.contains(c) && !what.except.contains(c));
            if what.columns.is_empty() {
                what.columns = both.collect();
            }
            what.except.clear();
            (was.columns, was.except) = (what.columns.clone(), Vec::new());
            was.categories.retain(|c| there.contains(c));
        }
        let before = reference.sketched(&At::Version(version), &was, &[]).await.map_err(failed)?;
        Ok((format!("{name}@{version}"), one(before), what))
    }

    /// The comparison; nothing while there is nothing to compare with.
    fn report(
        &self,
        config: &MonitorConfig,
        ((name, before), is): ((String, Sketched), &Sketched),
        (from, end, now): (i64, i64, UnixMillis),
    ) -> Result<Option<DriftReport>, String> {
        if before.rows == 0 || is.rows == 0 {
            return Ok(None);
        }
        let shown = |at: i64| UnixMillis(at).rfc3339();
        let window = format!("{}@{}, {} to {}", self.dataset.name(), self.version, shown(from), shown(end));
        let reference = Reference::new(before.profile);
        let report = DriftReport::new(
            now,
            (Side { name, rows: before.rows }, &reference),
            (Side { name: window, rows: is.rows }, &is.profile),
            settings::limits(config),
        );
        let report = report.map_err(|e| format!("cannot {e}"))?;
        Ok(Some(report.leaving_out(is.left_out.clone())))
    }
}

/// The figures of a comparison: of each column its effect when that is sure, and how many columns are broken.
fn figures(monitor: &str, test: TestConfig, report: &DriftReport) -> Vec<Figure> {
    let q = report.limits.q;
    let figure = |column: &ColumnReport| {
        let sure = column.q.is_some_and(|p| p < q);
        let effect = match test {
            TestConfig::All => column.of_limit,
            TestConfig::Psi => column.psi.unwrap_or(0.0),
            // Categories have no distance along an axis.
            TestConfig::W1 => column.w1.or(column.js).unwrap_or(0.0),
            TestConfig::Js => column.js.unwrap_or(0.0),
        };
        Figure {
            rule: monitor.to_owned(),
            labels: [("column".to_owned(), column.column.clone())].into(),
            value: column.q.map(|_| if sure { effect } else { 0.0 }),
            samples: report.window.rows.min(report.reference.rows),
            said: said(column),
        }
    };
    let mut all: Vec<Figure> = report.columns.iter().map(figure).collect();
    let schema = &report.schema;
    let broken: Vec<&str> = [&schema.gone, &schema.other_kind, &report.emptied]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    all.push(Figure {
        rule: settings::rule(monitor, "schema"),
        labels: Default::default(),
        value: Some(broken.len() as f64),
        samples: report.window.rows,
        said: if broken.is_empty() {
            String::new()
        } else {
            format!("gone, empty or of another kind: {}", broken.join(", "))
        },
    });
    all
}

/// What moved, in a few words.
fn said(column: &ColumnReport) -> String {
    let effect = format!("{} {:.3}, q {:.0e}", column.by, column.effect, column.q.unwrap_or(1.0));
    match &column.shape {
        Shape::Numbers { reference, window, .. } => {
            format!(
                "{effect}, mean {:.4} → {:.4}, missing {:.1} % → {:.1} %",
                reference.mean,
                window.mean,
                reference.missing * 100.0,
                window.missing * 100.0
            )
        }
        Shape::Categories { unseen_share, missing, .. } => {
            format!(
                "{effect}, unseen {:.1} %, missing {:.1} % → {:.1} %",
                unseen_share * 100.0,
                missing.0 * 100.0,
                missing.1 * 100.0
            )
        }
    }
}

fn volume(monitor: &str, earlier: &[u64], now: u64) -> Option<Figure> {
    if earlier.len() < settings::USUAL {
        return None;
    }
    let found = alarm::volume(earlier, now).ok()?;
    Some(Figure {
        rule: settings::rule(monitor, "volume"),
        labels: Default::default(),
        value: found.ratio,
        samples: now,
        said: format!("{now} rows, usually {:.0}", found.usual),
    })
}

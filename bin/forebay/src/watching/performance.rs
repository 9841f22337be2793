//! How right a model was in windows of the time of its answers, once what was true of them is known.
//!
//! A window that has ended waits for its labels, `wait` long and until their source has said all that it knew by then; only then it is
//! measured, once, and a window with too few labels is none. What is measured is taken from [`Matured`](::watch::performance::Matured)
//! alone, so nothing that is not mature ever raises an alert. Until then there is an estimate by the model's own probabilities, which
//! raises none.

use std::collections::BTreeMap;

use contract::UnixMillis;
use data::{At, Cells, Dataset, Typed, Warehouse};
use models::evaluate::Metric;
use watch::monitor::{Figure, Monitor, Performed, Window};
use watch::performance::{
    BinaryData, BinaryMetric, EstimatedMetric, Maturity, Measure, RegressionData, RegressionMetric,
    SliceLimits, WindowSettings, Windows, estimate, slices,
};

use super::settings;
use crate::capture::FEEDBACK;
use crate::config::monitor::{MonitorConfig, PerformanceConfig};

/// Windows that are looked at in one look, at most: of more whose labels are in, the newest.
const WINDOWS: i64 = 24;
/// The probability that an interval holds the true value.
const LEVEL: f64 = 0.95;
/// Rows of a window, at most.
const ROWS: usize = 5_000_000;
/// Outputs that are scores, where nobody says which column is one.
const SCORES: [&str; 4] =
    ["output_probabilities_1", "output_probability_1", "output_probability", "output_prediction"];

/// What was found of a window.
pub struct Found {
    /// The window.
    pub performed: Performed,
    /// Its figures; none while it waits for labels.
    pub window: Option<Window>,
}

/// Looks at the windows whose labels are in, or of which nothing was said yet; the oldest first. `by_now` is until when all that is
/// captured, and what was told of it, has come.
///
/// # Errors
/// Why it cannot be looked at, in words for who wrote the monitor.
pub async fn look(
    warehouse: &Warehouse,
    (config, performance): (&MonitorConfig, &PerformanceConfig),
    monitor: &Monitor,
    (now, by_now): (UnixMillis, i64),
) -> Result<Vec<Found>, String> {
    let failed = |e: data::Error| format!("cannot {e}");
    let dataset = warehouse.dataset(&config.watch).map_err(failed)?;
    if !dataset.exists().await.map_err(failed)? {
        return Ok(Vec::new());
    }
    let width = settings::millis(performance.window).max(1);
    let known = |at: i64| monitor.performance().iter().find(|p| p.end.0 == at * width);
    let settled = monitor.performance().iter().filter(|p| p.maturity != Maturity::Waiting);
    let after = settled.map(|p| p.end.0.div_euclid(width)).max().unwrap_or(i64::MIN);
    let wanted = |(horizon, watermark): (i64, i64)| -> Vec<i64> {
        let last = horizon.div_euclid(width);
        let first = (last - WINDOWS).max(after.saturating_add(1));
        let due = |at: i64| watermark >= (at * width).saturating_add(settings::millis(performance.wait));
        (first..=last).filter(|at| due(*at) || known(*at).is_none()).collect()
    };
    // That is seen without a look at the tables.
    if performance.labels.is_none() && wanted((by_now, by_now)).is_empty() {
        return Ok(Vec::new());
    }
    let source = Source::of(warehouse, dataset, config, performance).await?;
    let newest = monitor.newest().map_or(i64::MIN, |newest| newest.0).min(now.0);
    let (horizon, watermark) = source.known(newest, by_now).await?;
    let wanted = wanted((horizon, watermark));
    let mut all = Vec::new();
    for at in wanted {
        let found = source.window((monitor.name(), at * width, width), (now, watermark)).await?;
        // What still waits was said before, or has nothing to say yet.
        let waits = found.performed.maturity == Maturity::Waiting;
        if !(waits && (known(at).is_some() || found.performed.rows == 0)) {
            all.push(found);
        }
    }
    Ok(all)
}

/// Where rows and their labels are.
struct Source<'a> {
    warehouse: &'a Warehouse,
    rows: (Dataset, u64),
    labels: Option<(Dataset, u64)>,
    config: &'a MonitorConfig,
    performance: &'a PerformanceConfig,
    time: String,
    score: String,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An instant as SQL has it.
fn instant(at: i64) -> String {
    format!("arrow_cast({}, 'Timestamp(Microsecond, Some(\"UTC\"))')", at.saturating_mul(1_000))
}

impl<'a> Source<'a> {
    async fn of(
        warehouse: &'a Warehouse,
        dataset: Dataset,
        config: &'a MonitorConfig,
        performance: &'a PerformanceConfig,
    ) -> Result<Source<'a>, String> {
        let failed = |e: data::Error| format!("cannot {e}");
        let version = dataset.resolve(&At::Newest).await.map_err(failed)?;
        let at = At::Version(version);
        let time = match &config.time {
            Some(time) => time.clone(),
            None => super::look::only_time(&dataset, &at).await?,
        };
        let columns = dataset.column_names(&at).await.map_err(failed)?;
        let there = |name: &str| columns.iter().any(|c| c == name);
        let score = match &performance.score {
            Some(score) => score.clone(),
            None => SCORES.into_iter().find(|name| there(name)).map(str::to_owned).ok_or_else(|| {
                format!(
                    "name the column that is the score with `score`: `{}` has {}",
                    dataset.name(),
                    columns.join(", ")
                )
            })?,
        };
        for name in performance.slices.iter().chain([&score]) {
            if !there(name) {
                return Err(format!(
                    "`{}` has no column `{name}`: it has {}",
                    dataset.name(),
                    columns.join(", ")
                ));
            }
        }
        let named = match &performance.labels {
            None => Some(FEEDBACK),
            Some(labels) => labels.dataset.as_deref(),
        };
        let labels = match named {
            None => None,
            Some(name) => {
                let labels = warehouse.dataset(name).map_err(failed)?;
                match labels.exists().await.map_err(failed)? {
                    true => {
                        let version = labels.resolve(&At::Newest).await.map_err(failed)?;
                        Some((labels, version))
                    }
                    false if performance.labels.is_some() => {
                        return Err(format!("cannot find the dataset `{name}`, in which the labels are"));
                    }
                    // Nobody has said anything yet.
                    false => None,
                }
            }
        };
        Ok(Source { warehouse, rows: (dataset, version), labels, config, performance, time, score })
    }

    /// Until when rows have come, and until when all is known that is ever said of them.
    async fn known(&self, newest: i64, by_now: i64) -> Result<(i64, i64), String> {
        let Some(labels) = &self.performance.labels else { return Ok((by_now, by_now)) };
        let told = match (&labels.known_at, &self.labels) {
            // A label that stands beside its row came with it.
            _ if labels.dataset.is_none() => newest,
            (Some(column), Some((dataset, version))) => {
                let said = dataset.newest(&At::Version(*version), column, None).await;
                said.map_err(|e| format!("cannot {e}"))?.unwrap_or(i64::MIN)
            }
            (Some(_), None) => i64::MIN,
            (None, _) => by_now,
        };
        // Rows of a dataset may come at any time: a window has ended when a row, or a label, behind it has come.
        let ended = if labels.known_at.is_some() { newest.max(told) } else { newest };
        Ok((ended.min(by_now), told.min(by_now)))
    }

    /// The query for a window's rows with what was said of each first, and the tables it reads.
    fn query(&self, from: i64, end: i64) -> (String, Vec<(&'static str, Dataset, u64)>) {
        let own = |name: &str| format!("r.{}", quoted(name));
        let slices = self.performance.slices.iter().zip(0..);
        let slices: String =
            slices.map(|(name, at)| format!(", CAST({} AS text) AS slice_{at}", own(name))).collect();
        let time = own(&self.time);
        let (from, end) = (instant(from), instant(end));
        let heard = settings::heard(self.config).map(|filter| format!(" AND r.{filter}")).unwrap_or_default();
        let rows = format!("{time} >= {from} AND {time} < {end}{heard}");
        let mut tables = vec![("rows", self.rows.0.clone(), self.rows.1)];
        let (label, join) = match (&self.performance.labels, &self.labels) {
            (Some(labels), _) if labels.dataset.is_none() => {
                (format!("CAST({} AS text)", own(&labels.column)), String::new())
            }
            (_, None) => ("CAST(NULL AS text)".to_owned(), String::new()),
            (given, Some((dataset, version))) => {
                tables.push(("labels", dataset.clone(), *version));
                let (on, said, order): (Vec<(String, String)>, String, String) = match given {
                    Some(labels) => (
                        labels.on.iter().map(|(label, row)| (label.clone(), row.clone())).collect(),
                        format!("CAST({} AS text)", quoted(&labels.column)),
                        labels.known_at.as_ref().map(|at| format!(", {}", quoted(at))).unwrap_or_default(),
                    ),
                    None => (
                        ["id", "row", "tenant"].map(|key| (key.to_owned(), key.to_owned())).into(),
                        "COALESCE(label_text, CAST(label AS text))".to_owned(),
                        ", \"at\"".to_owned(),
                    ),
                };
                let keys: Vec<String> = on.iter().map(|(label, _)| quoted(label)).collect();
                let keys = keys.join(", ");
                let equal: Vec<String> =
                    on.iter().map(|(label, row)| format!("l.{} = {}", quoted(label), own(row))).collect();
                let join = format!(
                    " LEFT JOIN (SELECT DISTINCT ON ({keys}) {keys}, {said} AS said FROM labels WHERE {said} IS NOT NULL \
                     ORDER BY {keys}{order}) l ON {}",
                    equal.join(" AND ")
                );
                ("l.said".to_owned(), join)
            }
        };
        let score = own(&self.score);
        let sql = format!(
            "SELECT CAST({score} AS double) AS score, {label} AS label{slices} FROM rows r{join} WHERE {rows} AND {score} IS NOT NULL"
        );
        (sql, tables)
    }

    async fn window(
        &self,
        (monitor, end, width): (&str, i64, i64),
        (now, watermark): (UnixMillis, i64),
    ) -> Result<Found, String> {
        let performance = self.performance;
        let failed = |e: watch::Error| format!("cannot measure a window: {e}");
        let (sql, tables) = self.query(end - width, end);
        let found = self.warehouse.ask(&sql, &tables).await.map_err(|e| format!("cannot {e}"))?;
        let read = Read::of(found, performance.slices.len());
        let settings = WindowSettings {
            width: performance.window.0,
            wait: performance.wait.0,
            min_share: performance.labelled,
            max_rows: ROWS,
            max_windows: 1,
        };
        let mut windows: Windows<usize, f64> = Windows::new(settings).map_err(failed)?;
        let start = UnixMillis(end - width);
        for (at, label) in read.labels.iter().enumerate() {
            // In the order of their rows.
            let id = format!("{at:010}");
            windows.predicted(&id, start, at);
            if let Some(label) = label.as_deref().and_then(|label| self.truth(label)) {
                windows.labelled(&id, label);
            }
        }
        windows.advance(UnixMillis(watermark));
        let state = windows.states(now).pop();
        // What has no rows when their labels would be in never will.
        let due = watermark >= end.saturating_add(settings::millis(performance.wait));
        let none = if due { Maturity::Incomplete } else { Maturity::Waiting };
        let mut performed = Performed {
            end: UnixMillis(end),
            rows: state.map_or(0, |s| s.predicted),
            labelled: state.map_or(0, |s| s.labelled),
            maturity: state.map_or(none, |s| s.maturity),
            value: None,
            interval: None,
            estimate: self.estimated(&read.scores),
        };
        let rule = settings::rule(monitor, "performance");
        let mut window = Window { end: UnixMillis(end), rows: performed.rows, figures: Vec::new() };
        match windows.matured(now, start) {
            Err(_) if performed.maturity == Maturity::Waiting || performed.rows == 0 => {
                return Ok(Found { performed, window: None });
            }
            Err(_) => window.figures.push(Figure {
                rule,
                labels: BTreeMap::new(),
                value: None,
                samples: performed.labelled,
                said: format!(
                    "{} of {} rows are labelled, which is too few",
                    performed.labelled, performed.rows
                ),
            }),
            Ok(matured) => {
                let (rows, truth): (Vec<usize>, Vec<f64>) = matured.pairs().iter().copied().unzip();
                let scores: Vec<f64> = rows.iter().filter_map(|at| read.scores.get(*at).copied()).collect();
                let data = Data::of(performance.metric, scores, truth).map_err(failed)?;
                let all: Vec<usize> = (0..rows.len()).collect();
                let measured = data.measure(&all, performance).map(|measure| matured.measured(measure));
                performed.value = measured.map(|m| m.value());
                performed.interval = measured.and_then(|m| m.interval());
                let said = |measure: Option<Measure>, of: usize| self.said(measure, of, rows.len());
                let measure = |rows: &[usize]| data.measure(rows, performance);
                let of_all = measure(&all);
                window.figures.push(self.figure(
                    &rule,
                    BTreeMap::new(),
                    (of_all, rows.len()),
                    said(of_all, rows.len()),
                ));
                for (slice, of) in self.slices(&read, &rows).map_err(failed)? {
                    let labels = [("slice".to_owned(), slice)].into();
                    let found = measure(&of);
                    window.figures.push(self.figure(&rule, labels, (found, of.len()), said(found, of.len())));
                }
            }
        }
        Ok(Found { performed, window: Some(window) })
    }

    /// What a label says: a number, or whether it is the positive one.
    fn truth(&self, label: &str) -> Option<f64> {
        if binary(self.performance.metric).is_none() {
            return label.parse().ok();
        }
        let positive = |wanted: &str| match (wanted.parse::<f64>(), label.parse::<f64>()) {
            (Ok(wanted), Ok(own)) => wanted == own,
            _ => wanted == label,
        };
        let is = match &self.performance.positive {
            Some(wanted) => positive(wanted),
            None => positive("1") || positive("true"),
        };
        Some(f64::from(u8::from(is)))
    }

    /// A figure that fires when the whole interval is beyond what is allowed.
    fn figure(
        &self,
        rule: &str,
        labels: BTreeMap<String, String>,
        (measure, samples): (Option<Measure>, usize),
        said: String,
    ) -> Figure {
        // Without an interval nobody knows how sure a value is.
        let sure = |m: Measure| {
            let interval = m.interval?;
            Some(if self.performance.below.is_some() { interval.high } else { interval.low })
        };
        Figure { rule: rule.to_owned(), labels, value: measure.and_then(sure), samples: samples as u64, said }
    }

    fn said(&self, measure: Option<Measure>, rows: usize, all: usize) -> String {
        let metric = self.performance.metric;
        let of = if rows == all { format!("{rows} rows") } else { format!("{rows} of {all} rows") };
        match measure {
            None => format!("no {metric} of {of}"),
            Some(Measure { value, interval: Some(i) }) => {
                format!("{metric} {value:.4} ({:.4} to {:.4}) of {of}", i.low, i.high)
            }
            Some(Measure { value, .. }) => format!("{metric} {value:.4} of {of}"),
        }
    }

    /// Slices by one column each, as `column=value`, with places among `rows`.
    fn slices(&self, read: &Read, rows: &[usize]) -> Result<Vec<(String, Vec<usize>)>, watch::Error> {
        let columns: Vec<(&str, Vec<Option<&str>>)> = (self.performance.slices.iter().map(String::as_str))
            .zip(&read.slices)
            .map(|(name, values)| {
                (name, rows.iter().map(|at| values.get(*at).and_then(Option::as_deref)).collect())
            })
            .collect();
        let by: Vec<Vec<usize>> = (0..columns.len()).map(|at| vec![at]).collect();
        let limits = SliceLimits {
            min_rows: usize::try_from(settings::limits(self.config).min_rows).unwrap_or(usize::MAX),
            ..SliceLimits::default()
        };
        Ok(slices(&columns, &by, limits)?
            .rows
            .into_iter()
            .map(|(key, rows)| (key.to_string(), rows))
            .collect())
    }

    /// What the model's own probabilities say of how right it is: nothing of a metric that they say nothing of.
    fn estimated(&self, scores: &[f64]) -> Option<f64> {
        let metric = match self.performance.metric {
            Metric::Auc => EstimatedMetric::Auc,
            Metric::AveragePrecision => EstimatedMetric::PrAuc,
            Metric::Accuracy => EstimatedMetric::Accuracy,
            Metric::F1 => EstimatedMetric::F1,
            Metric::Precision => EstimatedMetric::Precision,
            Metric::Recall => EstimatedMetric::Recall,
            _ => return None,
        };
        let said = scores.iter().map(|score| *score >= self.performance.cut).collect();
        estimate(scores.to_vec(), scores.to_vec(), said).ok()?.value(metric)
    }
}

/// The rows of a window.
struct Read {
    scores: Vec<f64>,
    labels: Vec<Option<String>>,
    slices: Vec<Vec<Option<String>>>,
}

impl Read {
    fn of(found: Typed, wanted: usize) -> Read {
        let mut read = Read { scores: Vec::new(), labels: Vec::new(), slices: vec![Vec::new(); wanted] };
        for (name, cells) in found.columns {
            match (name.as_str(), cells) {
                ("score", Cells::Numbers(all)) => read.scores = all,
                ("label", cells) => read.labels = texts(cells),
                (name, cells) => {
                    let at = name.strip_prefix("slice_").and_then(|at| at.parse::<usize>().ok());
                    if let Some(place) = at.and_then(|at| read.slices.get_mut(at)) {
                        *place = texts(cells);
                    }
                }
            }
        }
        read
    }
}

fn texts(cells: Cells) -> Vec<Option<String>> {
    match cells {
        Cells::Texts { codes, words } => {
            codes.iter().map(|code| words.get(*code as usize).cloned()).collect()
        }
        _ => Vec::new(),
    }
}

/// What is measured, and of what.
enum Data {
    Binary(BinaryData, BinaryMetric),
    Number(RegressionData, RegressionMetric),
}

/// The figure of a classifier; nothing of a model of numbers.
pub fn binary(metric: Metric) -> Option<BinaryMetric> {
    Some(match metric {
        Metric::Auc => BinaryMetric::Auc,
        Metric::AveragePrecision => BinaryMetric::PrAuc,
        Metric::Accuracy => BinaryMetric::Accuracy,
        Metric::Precision => BinaryMetric::Precision,
        Metric::Recall => BinaryMetric::Recall,
        Metric::F1 => BinaryMetric::F1,
        Metric::Fpr => BinaryMetric::FalsePositiveRate,
        Metric::Fnr => BinaryMetric::FalseNegativeRate,
        Metric::LogLoss => BinaryMetric::LogLoss,
        Metric::Brier => BinaryMetric::Brier,
        Metric::Ece => BinaryMetric::Ece,
        Metric::RecallAtPrecision(precision) => BinaryMetric::RecallAtPrecision(precision),
        _ => return None,
    })
}

/// The figure of a model of numbers.
pub fn number(metric: Metric) -> Option<RegressionMetric> {
    Some(match metric {
        Metric::Mae => RegressionMetric::Mae,
        Metric::Rmse => RegressionMetric::Rmse,
        Metric::R2 => RegressionMetric::R2,
        _ => return None,
    })
}

impl Data {
    fn of(metric: Metric, scores: Vec<f64>, truth: Vec<f64>) -> Result<Data, watch::Error> {
        match (binary(metric), number(metric)) {
            (None, Some(metric)) => Ok(Data::Number(RegressionData::new(scores, truth)?, metric)),
            (found, _) => {
                let labels = truth.into_iter().map(|label| label > 0.5).collect();
                Ok(Data::Binary(BinaryData::new(scores, labels)?, found.unwrap_or(BinaryMetric::Auc)))
            }
        }
    }

    /// Of these rows; nothing when they do not have the figure.
    fn measure(&self, rows: &[usize], performance: &PerformanceConfig) -> Option<Measure> {
        // The same rows give the same interval.
        let seed = rows.len() as u64;
        match self {
            Data::Binary(data, metric) => data.select(rows).measure(*metric, performance.cut, LEVEL, seed),
            Data::Number(data, metric) => data.select(rows).measure(*metric, LEVEL, seed),
        }
    }
}

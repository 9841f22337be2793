//! `forebay drift A B`: whether B is still like A, column by column. Either is a file or a version of a dataset; or one of them is
//! compared with its own past.

use std::path::{Path, PathBuf};

use ::watch::drift::{DriftLimits, Level, Reference as Profiled};
use ::watch::report::{ColumnReport, DriftReport, Shape, Side};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use data::{At, Dataset, Sketched, Source, Span, Watching};

use super::data::{Project, Reference};
use super::storage::clean;
use super::{Global, print, print_json, time};
use crate::Error;
use crate::config::units;
use crate::datasets::failed;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 compared, 1 not compared or --fail-on came true.")]
pub struct Args {
    /// What was: a file (CSV, JSON, Parquet, Arrow) or a version of a dataset.
    #[arg(value_name = "A")]
    reference: String,
    /// What is: a file or a version of a dataset.
    #[arg(value_name = "B", required_unless_present = "window", conflicts_with = "window")]
    current: Option<String>,
    /// Compare the newest rows of A with those before: so much time of them, such as 30d.
    #[arg(long, value_name = "TIME")]
    window: Option<units::Time>,
    /// With --window: how much time before the window it is compared with. Unless given: all.
    #[arg(long, value_name = "TIME", requires = "window")]
    before: Option<units::Time>,
    /// With --window: the column that holds the time. Unless given: the only one that does.
    #[arg(long, value_name = "COLUMN", requires = "window")]
    by: Option<String>,
    /// Compare these columns alone, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    columns: Vec<String>,
    /// Do not compare these columns, separated by commas: keys, row numbers.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    except: Vec<String>,
    /// Columns of numbers that are names of something, such as a month or a code, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    categories: Vec<String>,
    /// Only rows of versions that meet this condition in SQL, on both sides.
    #[arg(long = "where", value_name = "CONDITION")]
    filter: Option<String>,
    /// Write the report with plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// End with 1 when a column has drifted, or has at least moved.
    #[arg(long, value_name = "LEVEL")]
    fail_on: Option<FailOn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Moved, and new columns.
    Warn,
    /// Drifted, and columns that are gone.
    Drift,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    super::data::block_on(Box::pin(compare(global, args)))
}

async fn compare(global: &Global, args: &Args) -> Result<(), Error> {
    let mut project = None;
    let first = Compared::open(global, &mut project, &args.reference).await?;
    let what = Watching {
        columns: args.columns.clone(),
        except: args.except.clone(),
        categories: args.categories.clone(),
        filter: args.filter.clone(),
    };
    let ((was, before), (is, after)) = match (&args.current, args.window) {
        (Some(current), _) => {
            let second = Compared::open(global, &mut project, current).await?;
            let (before, after) = (first.whole(&what).await?, second.whole(&what).await?);
            ((first.name(), before), (second.name(), after))
        }
        (None, Some(window)) => windows(args, &first, &what, window).await?,
        // The command line asks for one of them.
        (None, None) => return Err(Error::new("there is nothing to compare with", "name B, or --window")),
    };
    let report = report((was, before), (is, after))?;
    if let Some(file) = &args.html {
        std::fs::write(file, report.page()).map_err(|e| Error::file("write", file, &e))?;
    }
    if global.json {
        print_json(&report)?
    } else {
        show(&report)
    }
    let limit = match args.fail_on {
        None => return Ok(()),
        Some(FailOn::Warn) => Level::Warn,
        Some(FailOn::Drift) => Level::Alert,
    };
    if report.level >= limit { Err(Error::Refused) } else { Ok(()) }
}

type Named = (String, Sketched);

/// The newest rows of a table, and those before.
async fn windows(
    args: &Args,
    table: &Compared,
    what: &Watching,
    window: units::Time,
) -> Result<(Named, Named), Error> {
    let column = match &args.by {
        Some(column) => column.clone(),
        None => table.only_time().await?,
    };
    let Some(newest) = table.newest(&column, what.filter.as_deref()).await? else {
        return Err(Error::new(format!("`{column}` holds no time"), "name another column with --by"));
    };
    let cut = newest.saturating_sub(time::millis(window)).saturating_add(1);
    let from = args.before.map(|before| cut.saturating_sub(time::millis(before)));
    let span = |from, to| Span { column: column.clone(), from, to };
    let mut both = table.sketched(what, &[span(from, Some(cut)), span(Some(cut), None)]).await?.into_iter();
    let (before, after) = (both.next().unwrap_or_default(), both.next().unwrap_or_default());
    let (name, at) = (table.name(), time::show(contract::UnixMillis(cut)));
    Ok(((format!("{name} before {at}"), before), (format!("{name} since {at}"), after)))
}

fn report((was, before): Named, (is, after): Named) -> Result<DriftReport, Error> {
    for (name, side) in [(&was, &before), (&is, &after)] {
        if side.rows == 0 {
            return Err(Error::new(format!("{name} holds no rows"), "choose a side that holds some"));
        }
    }
    let mut left_out = before.left_out;
    left_out.extend(after.left_out.into_iter().filter(|name| !left_out.contains(name)).collect::<Vec<_>>());
    let reference = Side { name: was, rows: before.rows };
    let window = Side { name: is, rows: after.rows };
    let profiled = Profiled::new(before.profile);
    let report = DriftReport::new(
        time::now(),
        (reference, &profiled),
        (window, &after.profile),
        DriftLimits::default(),
    );
    let report = report.map_err(|e| Error::new(format!("cannot {e}"), "report this"))?;
    Ok(report.leaving_out(left_out))
}

/// What is compared.
enum Compared {
    Files(Source, String),
    Version(Dataset, u64),
}

impl Compared {
    /// What is a file, or is written like the path of one, is a file.
    async fn open(global: &Global, project: &mut Option<Project>, text: &str) -> Result<Compared, Error> {
        let path = Path::new(text);
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let packed = ["gz", "zst", "zip"].contains(&ending);
        if path.is_file() || text.contains(['/', '\\']) || packed || ending.parse::<data::Format>().is_ok() {
            return Ok(Compared::Files(Source::file(path), text.to_owned()));
        }
        let of: Reference =
            text.parse().map_err(|e| Error::new(format!("cannot {e}"), "see `forebay drift --help`"))?;
        if project.is_none() {
            *project = Project::open(global, false)?;
        }
        let Some(project) = project else {
            let message =
                format!("`{text}` is no file, and there are no datasets in {}", global.project.display());
            return Err(Error::new(message, "check the path; --project names another folder"));
        };
        let dataset = project.dataset(&of.dataset)?;
        let version = dataset.resolve(&of.at).await.map_err(failed)?;
        Ok(Compared::Version(dataset, version))
    }

    fn name(&self) -> String {
        match self {
            Compared::Files(_, text) => text.clone(),
            Compared::Version(dataset, version) => format!("{}@{version}", dataset.name()),
        }
    }

    async fn whole(&self, what: &Watching) -> Result<Sketched, Error> {
        Ok(self.sketched(what, &[]).await?.into_iter().next().unwrap_or_default())
    }

    async fn sketched(&self, what: &Watching, spans: &[Span]) -> Result<Vec<Sketched>, Error> {
        match self {
            Compared::Files(source, _) => source.sketched(what, spans).await,
            Compared::Version(dataset, version) => {
                dataset.sketched(&At::Version(*version), what, spans).await
            }
        }
        .map_err(failed)
    }

    async fn newest(&self, column: &str, filter: Option<&str>) -> Result<Option<i64>, Error> {
        match self {
            Compared::Files(source, _) => source.newest(column).await,
            Compared::Version(dataset, version) => {
                dataset.newest(&At::Version(*version), column, filter).await
            }
        }
        .map_err(failed)
    }

    async fn only_time(&self) -> Result<String, Error> {
        let times = match self {
            Compared::Files(source, _) => source.times().await,
            Compared::Version(dataset, version) => dataset.times(&At::Version(*version)).await,
        };
        match times.map_err(failed)?.as_slice() {
            [one] => Ok(one.clone()),
            [] => {
                Err(Error::new(format!("{} has no column of times", self.name()), "name two sides instead"))
            }
            more => {
                let message = format!("{} has several columns of times", self.name());
                Err(Error::new(message, format!("name one with --by: {}", more.join(", "))))
            }
        }
    }
}

/// Prints a report as a table, the worst first.
pub(super) fn show(report: &DriftReport) {
    let side = |side: &Side| format!("{} ({})", clean(&side.name), super::data::rows(side.rows));
    print(&format!("{} beside {}", side(&report.window), side(&report.reference)));
    let schema = &report.schema;
    for (what, names) in [
        ("gone", &schema.gone),
        ("hold nothing any more", &report.emptied),
        ("hold another kind of values", &schema.other_kind),
        ("new", &schema.new),
    ] {
        if !names.is_empty() {
            print(&format!("{what}: {}", clean(&names.join(", "))));
        }
    }
    let mut table = Table::new();
    let header = ["", "column", "effect", "of its limit", "test", "q", "what moved"];
    table.load_style(presets::NOTHING).set_header(header);
    for column in &report.columns {
        let mark = match column.level {
            Level::Alert => "DRIFT",
            Level::Warn => "moved",
            Level::Calm => "ok",
            Level::TooFew => "few",
        };
        table.add_row([
            mark.to_owned(),
            clean(&column.column),
            format!("{} {:.3}", column.by, column.effect),
            format!("{:.0} %", column.of_limit * 100.0),
            column.test.clone(),
            column.q.map_or_else(|| "-".to_owned(), |q| format!("{q:.1e}")),
            clean(&said(column)),
        ]);
    }
    print(&table.trim_fmt());
    if !report.left_out.is_empty() {
        print(&format!("not looked at: {}", clean(&report.left_out.join(", "))));
    }
    let count = |level| report.of(level).count();
    let (drifted, moved, all) = (count(Level::Alert), count(Level::Warn), report.columns.len());
    print(&format!("{drifted} of {all} columns drifted, {moved} moved"));
}

/// What moved, in a few words.
fn said(column: &ColumnReport) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    match &column.shape {
        Shape::Numbers { reference, window, .. } if column.test == "missing" => {
            format!("missing {} → {}", percent(reference.missing), percent(window.missing))
        }
        Shape::Numbers { reference, window, .. } => {
            format!("mean {} → {}", short(reference.mean), short(window.mean))
        }
        Shape::Categories { unseen, unseen_share, .. } if !unseen.is_empty() => {
            let names: Vec<&str> = unseen.iter().take(3).map(|bar| bar.label.as_str()).collect();
            let more = if unseen.len() > 3 { ", …" } else { "" };
            format!("unseen {}: {}{more}", percent(*unseen_share), names.join(", "))
        }
        Shape::Categories { values, missing, .. } => {
            let off = |bar: &&::watch::report::Bar| (bar.window - bar.reference).abs();
            let most = values.iter().max_by(|a, b| off(a).total_cmp(&off(b)));
            match most {
                Some(bar) if off(&bar) >= (missing.1 - missing.0).abs() => {
                    format!("{} {} → {}", bar.label, percent(bar.reference), percent(bar.window))
                }
                _ => format!("missing {} → {}", percent(missing.0), percent(missing.1)),
            }
        }
    }
}

/// Four digits.
fn short(x: f64) -> String {
    match x.abs() {
        size if x != 0.0 && !(1e-3..1e6).contains(&size) => format!("{x:.2e}"),
        size if size >= 100.0 => format!("{x:.0}"),
        _ => format!("{x:.3}"),
    }
}

//! `forebay data add`: rows into a dataset, from where the command or the configuration says.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::ValueEnum;
use contract::Secret;
use data::{Added, Change, ColumnType, Gate, Gated, How, Policy, Source};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{Global, Project, failed, lineage, rows, show_report, who};
use crate::Error;
use crate::cli::{print, print_json};
use crate::config::dataset::DatasetConfig;
use crate::sources::{self, Place};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset.
    dataset: String,
    /// Files, folders or an http address. Unless given: what is configured for the dataset.
    #[arg(value_name = "FILE|URL")]
    sources: Vec<String>,
    /// Take the rows of this query.
    #[arg(long, value_name = "QUERY", requires = "database", conflicts_with = "sources")]
    sql: Option<String>,
    /// The database that is asked: `sqlite:FILE` or `postgres://USER@HOST/DATABASE`.
    #[arg(long, value_name = "URL", env = "FOREBAY_DATABASE", hide_env_values = true, value_parser = secret)]
    database: Option<Secret>,
    /// Take the documents of this folder: a row for each, with path, size, hash, kind, text and time.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["sources", "sql"])]
    documents: Option<String>,
    /// Add the rows below those there are. This is so unless something else is configured.
    #[arg(long, conflicts_with_all = ["overwrite", "merge_by"])]
    append: bool,
    /// Put the rows in the place of those there are.
    #[arg(long, conflicts_with = "merge_by")]
    overwrite: bool,
    /// Put each row in the place of the one with the same key (columns, separated by commas).
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    merge_by: Vec<String>,
    /// The type of a column, correcting what would be inferred; may be repeated.
    #[arg(long = "column", value_name = "NAME=TYPE", value_parser = column)]
    columns: Vec<(String, ColumnType)>,
    /// A text that means that nothing is there; may be repeated.
    #[arg(long = "null", value_name = "TEXT")]
    nulls: Vec<String>,
    /// How files are written. Unless given: what their names end in.
    #[arg(long)]
    format: Option<Format>,
    /// The encoding of text, such as `latin1`.
    #[arg(long)]
    encoding: Option<data::Encoding>,
    /// What separates the fields of a CSV.
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Hold the rows against this file of expectations.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Hold the rows against no expectations, also not against those that are configured.
    #[arg(long, conflicts_with = "expect")]
    unchecked: bool,
    /// What becomes of rows that break an expectation.
    #[arg(long, value_name = "WHAT")]
    bad_rows: Option<BadRows>,
    /// With `--bad-rows quarantine`: the share of bad rows up to which the others are added.
    #[arg(long, value_name = "SHARE")]
    max_bad_share: Option<f64>,
    /// Fetch from addresses of private networks and of this machine, too.
    #[arg(long)]
    allow_private: bool,
    /// Why, for the log.
    #[arg(long, short)]
    message: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    Csv,
    Json,
    Parquet,
    Arrow,
}

impl From<Format> for data::Format {
    fn from(format: Format) -> data::Format {
        match format {
            Format::Csv => data::Format::Csv,
            Format::Json => data::Format::Json,
            Format::Parquet => data::Format::Parquet,
            Format::Arrow => data::Format::Arrow,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum BadRows {
    Refuse,
    Quarantine,
}

fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

fn column(text: &str) -> Result<(String, ColumnType), String> {
    let (name, ty) = text.split_once('=').ok_or("write NAME=TYPE, such as tailnum=text")?;
    Ok((name.to_owned(), ty.parse().map_err(|e: data::Error| e.to_string())?))
}

fn delimiter(text: &str) -> Result<u8, String> {
    crate::datasets::delimiter(text).ok_or_else(|| "write one ASCII character, such as ; or \\t".to_owned())
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let dataset = project.dataset(&args.dataset)?;
    let configured = project.configured(&args.dataset);
    let suite = match args.unchecked {
        true => None,
        false => project.expected(global, &args.dataset, args.expect.as_deref())?,
    };
    let (folder, place) = place(global, args, configured)?;
    let progress = Progress::new(global, &args.dataset);
    let fetched = sources::fetch(folder, &place, options(args, configured)?, None).await?;
    for note in &fetched.notes {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("note: {note}\n").as_bytes());
    }
    let source = &fetched.source;
    // A file that cannot be read is told by whoever reads its rows.
    let lineage = source.lineage(&global.project).await.ok();
    let (how, message) = (how(args, configured), args.message.clone());
    let change = Change { how, who: who(), message, effect: None, lineage };
    match suite {
        None => {
            let adding = Box::pin(dataset.add(source, &change));
            let added = progress.during(source, adding).await.map_err(failed)?;
            lineage::keep(global, &dataset, &added).await;
            told(global, &args.dataset, &added, None)
        }
        Some(suite) => {
            let gate = Gate { suite, policy: policy(args, configured) };
            let adding = Box::pin(dataset.add_checked(source, &change, &gate));
            let gated = progress.during(source, adding).await.map_err(failed)?;
            match &gated.added {
                Some(added) => {
                    lineage::keep(global, &dataset, added).await;
                    told(global, &args.dataset, added, Some(&gated))
                }
                None => refused(global, &args.dataset, &gated),
            }
        }
    }
}

fn how(args: &Args, configured: Option<&DatasetConfig>) -> How {
    if args.append {
        return How::Append;
    }
    if args.overwrite {
        return How::Overwrite;
    }
    if !args.merge_by.is_empty() {
        return How::Merge { key: args.merge_by.clone() };
    }
    if args.documents.is_some() {
        return How::Overwrite;
    }
    configured.map(DatasetConfig::how).unwrap_or_default()
}

fn policy(args: &Args, configured: Option<&DatasetConfig>) -> Policy {
    let share = args.max_bad_share.or(configured.map(|c| c.max_bad_share)).unwrap_or(0.1);
    match (args.bad_rows, configured) {
        (Some(BadRows::Refuse), _) | (None, None) => Policy::Fail,
        (Some(BadRows::Quarantine), _) => Policy::Quarantine { max_share: share },
        (None, Some(c)) => match c.policy() {
            Policy::Quarantine { .. } => Policy::Quarantine { max_share: share },
            Policy::Fail => Policy::Fail,
        },
    }
}

/// Where the rows are, and the folder that relative paths start in: that of the project for what is configured.
fn place<'a>(
    global: &'a Global,
    args: &Args,
    configured: Option<&DatasetConfig>,
) -> Result<(&'a Path, Place), Error> {
    let here = Path::new("");
    if let (Some(query), Some(database)) = (&args.sql, &args.database) {
        return Ok((
            here,
            Place::Sql { database: database.clone(), query: query.clone(), timeout: sources::TIMEOUT },
        ));
    }
    if let Some(folder) = &args.documents {
        return Ok((here, Place::Documents(folder.clone())));
    }
    let is_url = |text: &&String| text.starts_with("https://") || text.starts_with("http://");
    match (args.sources.as_slice(), args.sources.iter().find(is_url)) {
        ([], _) => {
            let mut place = configured.and_then(Place::configured).ok_or_else(|| {
                let help =
                    "name a file or an address, or configure the dataset under `datasets` in forebay.yaml";
                Error::new(format!("nothing says where the rows of `{}` are", args.dataset), help)
            })?;
            if let Place::Url { allow_private, .. } = &mut place {
                *allow_private |= args.allow_private;
            }
            Ok((&global.project, place))
        }
        ([url], Some(_)) => {
            let url = url.clone();
            Ok((here, Place::Url { url, allow_private: args.allow_private, most: sources::MOST }))
        }
        (_, Some(_)) => Err(Error::new("an address is a source by itself", "add one after the other")),
        (files, None) => Ok((here, Place::Files(files.to_vec()))),
    }
}

/// What is known of the files: what the command says goes before what is configured.
fn options(args: &Args, configured: Option<&DatasetConfig>) -> Result<Source, Error> {
    let mut source = configured.map(crate::datasets::options).transpose()?.unwrap_or_default();
    source.types.extend(args.columns.iter().cloned());
    if !args.nulls.is_empty() {
        source.nulls.clone_from(&args.nulls);
    }
    source.format = args.format.map(Into::into).or(source.format);
    source.encoding = args.encoding.or(source.encoding);
    source.delimiter = args.delimiter.or(source.delimiter);
    Ok(source)
}

fn outcome(dataset: &str, added: &Added, gated: Option<&Gated>) -> Value {
    json!({
        "dataset": dataset,
        "version": added.version,
        "name": added.name.as_str(),
        "new": added.new,
        "rows": added.rows,
        "read": added.read,
        "replaced": added.replaced,
        "quarantined": gated.map(|g| g.quarantined),
        "attempt": gated.map(|g| &g.attempt),
        "report": gated.map(|g| &g.report),
    })
}

fn told(global: &Global, dataset: &str, added: &Added, gated: Option<&Gated>) -> Result<(), Error> {
    if global.json {
        return print_json(&outcome(dataset, added, gated));
    }
    let reference = format!("{dataset}@{}", added.version);
    if added.new {
        let replaced = match added.replaced {
            0 => String::new(),
            n => format!(", {} replaced", rows(n)),
        };
        let read = rows(added.read);
        print(&format!(
            "{reference}: {read} added{replaced}, {} in it, name {}",
            rows(added.rows),
            added.name.short()
        ));
    } else {
        print(&format!("{reference} holds just that already: no new version"));
    }
    let Some(gated) = gated else { return Ok(()) };
    if gated.quarantined > 0 {
        let held = rows(gated.quarantined);
        print(&format!(
            "{held} in quarantine: `forebay data quarantine show {dataset} --attempt {}`",
            gated.attempt
        ));
    }
    let warnings = gated.report.outcomes.iter().filter(|o| !o.passed).count();
    if warnings > 0 {
        show_report(&gated.report);
    }
    Ok(())
}

fn refused(global: &Global, dataset: &str, gated: &Gated) -> Result<(), Error> {
    if global.json {
        print_json(&json!({
            "dataset": dataset,
            "version": null,
            "quarantined": gated.quarantined,
            "attempt": gated.attempt,
            "report": gated.report,
        }))?;
    } else {
        show_report(&gated.report);
        print(&format!("refused: `{dataset}` is as it was"));
        if gated.quarantined > 0 {
            let held = rows(gated.quarantined);
            let attempt = &gated.attempt;
            print(&format!(
                "{held} in quarantine: `forebay data quarantine show {dataset} --attempt {attempt}`"
            ));
        }
    }
    Err(Error::Refused)
}

/// How many rows were read, on standard error; nothing where that is no terminal.
struct Progress(ProgressBar);

impl Progress {
    fn new(global: &Global, dataset: &str) -> Progress {
        if global.json {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        let style =
            ProgressStyle::with_template("{spinner} {prefix}: {human_pos} rows  {per_sec}  {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(dataset.to_owned());
        Progress(bar)
    }

    async fn during<T>(self, source: &Source, work: impl Future<Output = T>) -> T {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.0.finish_and_clear();
                    return done;
                }
                _ = tick.tick() => self.0.set_position(source.rows_read.load(Ordering::Relaxed)),
            }
        }
    }
}

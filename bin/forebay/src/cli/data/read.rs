//! `forebay data read`: rows of a version, as a table, or in a format that other programs read.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use data::{At, Select};
use serde_json::json;

use super::{Global, Project, Reference, cell, failed, rows};
use crate::Error;
use crate::cli::storage::clean;
use crate::cli::{print, print_json};

/// Rows that are shown when nobody says how many: a table and a value of JSON are in memory as a whole.
const SHOWN: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset and, behind `@`, a version, a tag, a time or the beginning of a name.
    #[arg(value_name = "DATASET[@VERSION]")]
    of: Reference,
    /// Which rows: a condition in SQL, such as `month = 1 and carrier = 'UA'`.
    #[arg(long = "where", value_name = "CONDITION")]
    filter: Option<String>,
    /// Which columns, separated by commas, in this order.
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    columns: Vec<String>,
    /// At most so many rows. Unless given: 100 for a table, all otherwise.
    #[arg(long)]
    limit: Option<usize>,
    /// How. Unless given: what the name of the file ends in, and else a table.
    #[arg(long)]
    format: Option<Format>,
    /// Write to this file. It appears when it is complete.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// With a header line.
    Csv,
    /// An object a line.
    Json,
    Parquet,
    Arrow,
}

impl Format {
    fn of_file(self) -> Option<data::Format> {
        Some(match self {
            Format::Table => return None,
            Format::Csv => data::Format::Csv,
            Format::Json => data::Format::Json,
            Format::Parquet => data::Format::Parquet,
            Format::Arrow => data::Format::Arrow,
        })
    }
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let dataset = project.dataset(&args.of.dataset)?;
    // One version, also when another is made while this one is read.
    let version = dataset.resolve(&args.of.at).await.map_err(failed)?;
    let at = At::Version(version);
    let mut select = Select { columns: args.columns.clone(), filter: args.filter.clone(), limit: args.limit };
    if let Some(file) = &args.output {
        let ending = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let format = match args.format.map(Format::of_file) {
            Some(Some(format)) => format,
            Some(None) => {
                return Err(Error::new("a table is for people", "take csv, json, parquet or arrow"));
            }
            None => ending.parse().map_err(failed)?,
        };
        let written = dataset.export(&at, &select, file, format).await.map_err(failed)?;
        if global.json {
            return print_json(
                &json!({"dataset": args.of.dataset, "version": version, "rows": written, "file": file}),
            );
        }
        print(&format!("{} of {}@{version} in {}", rows(written), args.of.dataset, file.display()));
        return Ok(());
    }
    let format = args.format.unwrap_or(Format::Table);
    if let Some(format) = format.of_file().filter(|_| !global.json) {
        let binary = matches!(format, data::Format::Parquet | data::Format::Arrow);
        if binary && std::io::stdout().is_terminal() {
            return Err(Error::new("this format is not for a terminal", "name a file with -o"));
        }
        let read = dataset.read(&at, &select).await.map_err(failed)?;
        let out = std::io::BufWriter::new(std::io::stdout());
        return match read.print(out, format).await {
            // A reader that left is no failure.
            Err(data::Error::Storage { why, .. }) if why.contains("Broken pipe") => Ok(()),
            done => done.map(|_| ()).map_err(failed),
        };
    }
    let limit = args.limit.unwrap_or(SHOWN);
    select.limit = Some(limit.saturating_add(1));
    let read = dataset.read(&at, &select).await.map_err(failed)?;
    let names: Vec<String> = read.schema().names().map(str::to_owned).collect();
    let mut found = read.all().await.map_err(failed)?;
    let more = found.len() > limit;
    found.truncate(limit);
    if global.json {
        return print_json(
            &json!({"dataset": args.of.dataset, "version": version, "rows": found, "more": more}),
        );
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(names.iter().map(|n| clean(n)));
    for row in &found {
        table.add_row(names.iter().map(|name| row.get(name).map(cell).unwrap_or_default()));
    }
    print(&table.trim_fmt());
    if more {
        print("there are more: --limit, --where, or all of them with `--format csv`");
    }
    Ok(())
}

//! `forebay data validate`: a version against expectations. Ends with 1 when it is not as expected.

use std::path::PathBuf;

use super::{Global, Project, Reference, failed, rows, show_report};
use crate::Error;
use crate::cli::{print, print_json};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The dataset and, behind `@`, a version, a tag, a time or the beginning of a name.
    #[arg(value_name = "DATASET[@VERSION]")]
    of: Reference,
    /// The file of expectations. Unless given: the one that is configured for the dataset.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
}

pub(super) async fn run(global: &Global, project: &Project, args: &Args) -> Result<(), Error> {
    let name = &args.of.dataset;
    let suite = project.expected(global, name, args.expect.as_deref())?.ok_or_else(|| {
        let help = "name a file with --expect; `forebay data profile --suggest` writes a first one";
        Error::new(format!("nothing says what is expected of `{name}`"), help)
    })?;
    let report = project.dataset(name)?.validate(&args.of.at, &suite).await.map_err(failed)?;
    if global.json {
        print_json(&report)?;
    } else {
        show_report(&report);
        let verdict = if report.passed { "is as expected" } else { "is not as expected" };
        let version = report.version.map(|v| format!("@{v}")).unwrap_or_default();
        print(&format!(
            "{name}{version} {verdict}: {}, {} expectations",
            rows(report.rows),
            report.outcomes.len()
        ));
    }
    if report.passed { Ok(()) } else { Err(Error::Refused) }
}

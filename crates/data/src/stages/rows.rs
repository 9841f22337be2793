//! Rows for stages that are run for each of a table's, and the table of what came of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use contract::lineage::Lineage;
use contract::{Code, Context, Value};

use super::job::Job;
use super::{Means, place, table};
use crate::{ColumnType, Format, How, Source};

/// Writes the rows of a table into `folder`, a JSON object a line.
///
/// # Errors
/// Those of [`place`].
pub async fn rows(means: &dyn Means, table: &str, folder: &Path) -> Result<PathBuf, contract::Error> {
    place(means, table, folder, Format::Json).await
}

/// The rows of a file, a JSON object a line, as a version of the stage's own dataset: once for the attempt's effect. `types` are
/// those of columns that are known.
///
/// # Errors
/// Rows that are none, a disk that is full.
pub async fn gather(
    means: &dyn Means,
    cx: &Context,
    file: &Path,
    types: &[(String, &'static str)],
) -> Result<Value, contract::Error> {
    let job = Job::begin(means, cx)?;
    let staging = job.staging()?;
    if let Some(done) = job.done(&staging).await? {
        return Ok(done);
    }
    let mut known: BTreeMap<String, ColumnType> = BTreeMap::new();
    for (name, ty) in types {
        let ty = ty.parse().map_err(|_| {
            contract::Error::new(Code::Internal, format!("there is no type `{ty}`; this is a defect"))
        })?;
        known.insert(name.clone(), ty);
    }
    let source = Source {
        paths: vec![file.to_owned()],
        format: Some(Format::Json),
        types: known,
        ..Source::default()
    };
    // What it was made of is what the stage was given, which is told beside.
    let change = job.change(How::Overwrite, None, Lineage::default());
    let added = Box::pin(staging.add(&source, &change)).await.map_err(|e| job.failed(e))?;
    job.say(format!("{} rows: {}", added.rows, added.name.short()));
    Ok(table::value(&staging, &added))
}

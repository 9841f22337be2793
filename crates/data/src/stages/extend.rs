//! A table with columns that somebody works out row by row.

use contract::lineage::{Lineage, Thing};
use contract::{Context, Value};

use super::job::Job;
use super::table::Table;
use super::{Means, table};
use crate::dataset::{Extending, Unmade};
use crate::{Adds, How};

/// Rows after which it is noted what is done.
pub const PART: u64 = 262_144;

/// What is added to a table.
pub struct Extension {
    /// The columns of the table that stay; `None` for all of them.
    pub keep: Option<Vec<String>>,
    /// What tells the added columns from others, for an attempt that goes on where another died.
    pub stamp: String,
    /// What they are made of, beside the table.
    pub made_of: Vec<Thing>,
    /// Rows after which what is done is noted, so that an attempt that dies loses no more; [`PART`] is usual.
    pub part: u64,
    /// Who works them out.
    pub adds: Box<dyn Adds>,
}

/// The rows of the version that `table` names with columns beside their own, as a version of the stage's own dataset: once for the
/// attempt's effect. An attempt goes on behind what an earlier one has done of it, unless that was of something else.
///
/// # Errors
/// A text that names no table, columns that are not there, a disk that is full, and those of who works the columns out.
pub async fn extend(
    means: &dyn Means,
    cx: &Context,
    table: &str,
    extension: Extension,
) -> Result<Value, contract::Error> {
    let job = Job::begin(means, cx)?;
    let staging = job.staging()?;
    if let Some(done) = job.done(&staging).await? {
        return Ok(done);
    }
    let Table { dataset, version, text } = Table::find(&job.warehouse, table).await?;
    let mut lineage = Lineage::of(vec![dataset.pinned(version).await.map_err(|e| job.failed(e))?]);
    for thing in extension.made_of {
        lineage.input(thing);
    }
    let change = job.change(How::Overwrite, None, lineage);
    let rows = dataset.count(version).await.map_err(|e| job.failed(e))?;
    let attempt = job.effect_name();
    let of = Extending {
        from: &dataset,
        version,
        keep: extension.keep.as_deref(),
        stamp: &extension.stamp,
        attempt: &attempt,
        part: extension.part,
        change: &change,
        source: text.to_string(),
        say: &|line| job.say(line),
    };
    let told = |done| job.attempt.log.progress(done, rows);
    let added = match Box::pin(staging.extend(of, extension.adds, &told)).await {
        Ok(added) => added,
        Err(Unmade::Ours(error)) => return Err(job.failed(error)),
        Err(Unmade::Theirs(error)) => {
            job.say(&error.message);
            return Err(error);
        }
    };
    job.say(format!("{} rows: {}", added.rows, added.name.short()));
    job.trace(&staging, &added).await?;
    Ok(table::value(&staging, &added))
}

//! What was added to a dataset between two versions, where nothing was taken away.

use std::collections::BTreeSet;

use datafusion::prelude::{DataFrame, SessionContext};
use deltalake::DeltaTable;
use futures_util::TryStreamExt;

use crate::dataset::Dataset;
use crate::{Error, store};

impl Dataset {
    /// The files that version `to` has beyond those of `from`; `None` when it lacks some of them, when `from` is gone, or when
    /// files of the table do not hold its rows as they are (partitions, deletion vectors, mapped columns).
    pub(crate) async fn added_since(&self, from: u64, to: u64) -> Result<Option<Vec<String>>, Error> {
        let Ok(before) = self.at_version(from).await else { return Ok(None) };
        let after = self.at_version(to).await?;
        if self.schema_of(&before)? != self.schema_of(&after)? || !self.is_plain(&after)? {
            return Ok(None);
        }
        let (Some(held), Some(mut added)) = (self.files_of(&before).await?, self.files_of(&after).await?)
        else {
            return Ok(None);
        };
        let held: BTreeSet<String> = held.into_iter().collect();
        let all = added.len();
        added.retain(|file| !held.contains(file));
        Ok((all - added.len() == held.len()).then_some(added))
    }

    /// Files of a version as a table of a query; for those of [`Dataset::added_since`] alone.
    pub(crate) async fn files_frame(
        &self,
        session: &SessionContext,
        files: &[String],
        version: u64,
    ) -> Result<DataFrame, Error> {
        let schema = self.schema_of(&self.at_version(version).await?)?;
        self.paths_frame(session, files.iter().map(String::as_str), &schema).await
    }

    /// The files of a version; `None` when rows of some are deleted in place.
    pub(super) async fn files_of(&self, table: &DeltaTable) -> Result<Option<Vec<String>>, Error> {
        let failed = |e| store::table("list the files of", &self.name, &e);
        let state = table.snapshot().map_err(failed)?;
        let log = table.log_store();
        let files = state.snapshot().file_views(&*log, None);
        let whole = |file: deltalake::kernel::LogicalFileView| {
            file.deletion_vector_descriptor().is_none().then(|| file.path().into_owned())
        };
        let files: Vec<Option<String>> = files.map_ok(whole).try_collect().await.map_err(failed)?;
        Ok(files.into_iter().collect())
    }

    pub(super) fn is_plain(&self, table: &DeltaTable) -> Result<bool, Error> {
        let state = table.snapshot().map_err(|e| store::table("open", &self.name, &e))?;
        let metadata = state.metadata();
        let mapped =
            metadata.configuration().get("delta.columnMapping.mode").is_some_and(|mode| mode != "none");
        Ok(metadata.partition_columns().is_empty() && !mapped)
    }
}

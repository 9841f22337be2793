//! Giving disk space back: files that only old, untagged versions need.

use std::time::Duration;

use deltalake::operations::vacuum::VacuumMode;

use crate::dataset::Dataset;
use crate::{Error, store};

/// What may go.
#[derive(Debug, Clone)]
pub struct Gc {
    /// Files that left the newest version longer ago than this. A reader or a writer that takes longer loses its files.
    pub older_than: Duration,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    /// The files, by their path in the dataset's folder.
    pub files: Vec<String>,
}

impl Dataset {
    /// Removes files that no version needs that is newest, tagged or younger than the retention: also what a crashed writer
    /// left. Versions that lose files stay in the log and cannot be read any more.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::Storage`].
    pub async fn gc(&self, gc: &Gc) -> Result<Collected, Error> {
        self.gc_but(gc, Vec::new()).await
    }

    /// The same, which keeps these versions too.
    pub(crate) async fn gc_but(&self, gc: &Gc, mut kept: Vec<u64>) -> Result<Collected, Error> {
        let table = self.existing().await?;
        kept.extend(self.tags().await?.into_iter().map(|tag| tag.version));
        let retention = i64::try_from(gc.older_than.as_secs()).unwrap_or(i64::MAX / 2000);
        let retention = chrono::Duration::try_seconds(retention.min(i64::MAX / 2000)).unwrap_or_default();
        let work = table
            .vacuum()
            .with_mode(VacuumMode::Full)
            .with_retention_period(retention)
            .with_enforce_retention_duration(false)
            .with_keep_versions(&kept)
            .with_dry_run(gc.dry_run)
            .await;
        let (_, metrics) = work.map_err(|e| store::table("collect the garbage of", &self.name, &e))?;
        Ok(Collected { files: metrics.files_deleted })
    }
}

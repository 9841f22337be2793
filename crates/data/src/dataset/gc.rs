//! Giving disk space back: files that only old, untagged versions need.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use deltalake::operations::vacuum::VacuumMode;
use pipeline::task;

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
        let mut files = metrics.files_deleted;
        files.extend(self.cut_off(gc).await?);
        Ok(Collected { files })
    }

    /// Removes what writes left that were cut off: in a local folder a file is written as `NAME#1` first, and no list of files shows
    /// that to anybody.
    async fn cut_off(&self, gc: &Gc) -> Result<Vec<String>, Error> {
        let Ok(root) = self.url.to_file_path() else { return Ok(Vec::new()) };
        let kept = i64::try_from(gc.older_than.as_millis()).unwrap_or(i64::MAX);
        let before = self.warehouse.inner.clock.wall().0.saturating_sub(kept);
        let dry = gc.dry_run;
        let found = task::reading("data-gc", move || {
            let mut found = Vec::new();
            for file in half_written(&root, before) {
                if dry || std::fs::remove_file(&file).is_ok() {
                    found.extend(file.strip_prefix(&root).ok().map(|own| own.display().to_string()));
                }
            }
            found
        });
        found.await.map_err(|crashed| self.defect("collect the garbage of", &crashed.to_string()))
    }
}

/// The files below a folder that were being written, and were last written to before then.
fn half_written(folder: &Path, before: i64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, Ok(known)) = (entry.path(), entry.metadata()) else { continue };
        if known.is_dir() {
            found.extend(half_written(&path, before));
            continue;
        }
        let name = entry.file_name();
        let staged = name.to_str().and_then(|name| name.rsplit_once('#'));
        let staged = staged.is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let written = known.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let written = written.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(i64::MAX);
        if staged && known.is_file() && written <= before {
            found.push(path);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_is_found_when_it_is_old_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("_delta_log")).unwrap();
        for name in ["a.parquet", "a.parquet#1", "b#c.parquet", "c#", "_delta_log/1.json#12"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let found = |before: i64| {
            let mut found = half_written(folder.path(), before);
            found.sort();
            let names = found.iter().map(|p| p.strip_prefix(folder.path()).unwrap().display().to_string());
            names.collect::<Vec<_>>()
        };
        assert_eq!(found(i64::MAX - 1), ["_delta_log/1.json#12", "a.parquet#1"]);
        assert!(found(0).is_empty(), "what is written now is somebody's");
    }
}

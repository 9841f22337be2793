//! What keeps a dataset that grows all the time quick and no larger than it has to be: small files put together, and rows that are too old
//! taken out. Files that only older versions need go with [`Dataset::gc`].

use std::num::NonZeroU64;

use contract::UnixMillis;
use datafusion::prelude::{ident, lit};
use datafusion::scalar::ScalarValue;

use crate::dataset::commit::{Refused, Replace};
use crate::dataset::facts::Facts;
use crate::dataset::read::Rows;
use crate::dataset::stage::{properties, remove};
use crate::dataset::{Dataset, number};
use crate::{ColumnType, Error, store};

/// When files are put together.
#[derive(Debug, Clone, Copy)]
pub struct Compact {
    /// Files below this many bytes are small, and are put together up to it.
    pub target: NonZeroU64,
    /// Fewer small files than this are left as they are.
    pub at_least: usize,
}

/// Rows that were too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// How many.
    pub rows: u64,
    /// The version without them.
    pub version: u64,
}

impl Dataset {
    /// Puts small files together. The rows are the same, and so is the name of what is there; whoever reads an older version reads its
    /// own files. How many files there are less.
    ///
    /// # Errors
    /// [`Error::NoDataset`]; [`Error::Storage`], also when somebody else changed the rows meanwhile: then nothing is done.
    pub async fn compact(&self, compact: Compact) -> Result<u64, Error> {
        let _turn = self.warehouse.inner.turns.wait(&self.name).await;
        let table = self.existing().await?;
        let state = table.snapshot().map_err(|e| store::table("open", &self.name, &e))?;
        let target = i64::try_from(compact.target.get()).unwrap_or(i64::MAX);
        let small = state.snapshot().log_data().iter().filter(|file| file.size() < target).count();
        if small < compact.at_least.max(2) {
            return Ok(0);
        }
        let columns = state.snapshot().arrow_schema();
        let done = table
            .optimize()
            .with_target_size(compact.target)
            .with_writer_properties(properties(&columns))
            .await;
        let (_, metrics) = done.map_err(|e| store::table("put files together of", &self.name, &e))?;
        Ok(metrics.num_files_removed.saturating_sub(metrics.num_files_added))
    }

    /// Takes out the rows whose time in `column` is before `before`; rows without one stay. `None` when there is none. Older versions have
    /// them until [`Dataset::gc`].
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::Invalid`] for a column that is no time, [`Error::Conflict`] when somebody else changed the rows
    /// meanwhile: then nothing is done.
    pub async fn expire(
        &self,
        column: &str,
        before: UnixMillis,
        who: &str,
    ) -> Result<Option<Expired>, Error> {
        let base = self.existing().await?;
        let schema = self.schema_of(&base)?;
        let found = schema.named(column, &self.name)?;
        if found.ty != ColumnType::Timestamp {
            let why = format!("it is {}, and no time", found.ty);
            return Err(Error::invalid(format!("the column `{column}`"), why));
        }
        let failed = |e| store::query("find rows that are too old", &e);
        let session = self.warehouse.session();
        let frame = self.frame(&session, &base).await?;
        let micros = before.0.saturating_mul(1_000);
        let time = lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
        let old = frame.clone().filter(ident(column).lt(time.clone())).map_err(failed)?;
        let old = u64::try_from(old.count().await.map_err(failed)?).unwrap_or(u64::MAX);
        if old == 0 {
            return Ok(None);
        }
        let kept = frame.filter(ident(column).is_null().or(ident(column).gt_eq(time))).map_err(failed)?;
        let staged = self.stage_rows(&base, Rows::run(kept, schema.clone()).await?).await?;
        let at = self.warehouse.inner.clock.wall().0;
        let mut facts = Facts::new(&staged.fingerprint, &schema, "expire", 0, at);
        facts.who = Some(who.to_owned());
        facts.message = Some(format!("rows before {} of `{column}` are too old", before.rfc3339()));
        let _turn = self.warehouse.inner.turns.wait(&self.name).await;
        let error = match self.commit(&base, &staged, Replace::Everything, &schema, &facts).await {
            Ok(version) => return Ok(Some(Expired { rows: old, version })),
            Err(Refused::Failed(error)) => error,
            Err(Refused::Taken) => {
                let (base, theirs) = (number(&base), number(&self.existing().await?));
                Error::Conflict { dataset: self.name.to_string(), base, theirs }
            }
        };
        remove(&*self.store(), &staged.files).await;
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use contract::ManualClock;

    use super::*;
    use crate::dataset::{At, Select};
    use crate::{Change, Gc, Settings, Source, Warehouse};

    const DAY: i64 = 86_400_000;

    /// Twenty versions of one row each, a day apart, and one row without a time.
    async fn grown(folder: &tempfile::TempDir) -> Dataset {
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(1)));
        let root = folder.path().join("warehouse");
        let warehouse = Warehouse::open(root.to_str().unwrap(), clock, Settings::default()).unwrap();
        let dataset = warehouse.dataset("seen").unwrap();
        for n in 0..20 {
            let at = UnixMillis(n * DAY).rfc3339();
            let last = if n == 19 { "99,\n" } else { "" };
            let path = folder.path().join("source.csv");
            std::fs::write(&path, format!("n,at\n{n},{at}\n{last}")).unwrap();
            dataset.add(&Source::file(path), &Change::default()).await.unwrap();
        }
        dataset
    }

    async fn numbers(dataset: &Dataset, at: &At) -> Vec<i64> {
        let rows = dataset.read(at, &Select::default()).await.unwrap().all().await.unwrap();
        let mut all: Vec<i64> = rows.iter().map(|row| row["n"].as_i64().unwrap()).collect();
        all.sort_unstable();
        all
    }

    fn files(folder: &tempfile::TempDir) -> usize {
        let all = std::fs::read_dir(folder.path().join("warehouse/seen")).unwrap().flatten();
        all.filter(|f| f.path().extension().is_some_and(|e| e == "parquet")).count()
    }

    #[tokio::test]
    async fn small_files_become_one_and_the_rows_and_their_name_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = grown(&folder).await;
        let before = dataset.show(&At::Newest).await.unwrap();
        let rows = numbers(&dataset, &At::Newest).await;
        let compact = |at_least| Compact { target: NonZeroU64::new(1 << 20).unwrap(), at_least };
        assert_eq!(dataset.compact(compact(100)).await.unwrap(), 0, "too few to bother");
        assert_eq!(dataset.compact(compact(8)).await.unwrap(), 19);
        let after = dataset.show(&At::Newest).await.unwrap();
        assert_eq!((&after.name, after.rows), (&before.name, before.rows));
        assert_eq!(numbers(&dataset, &At::Newest).await, rows);
        assert_eq!(dataset.newest_change().await.unwrap(), Some(19), "what changes no rows starts nothing");
        assert_eq!(
            numbers(&dataset, &At::Version(3)).await,
            [0, 1, 2, 3],
            "older versions have their own files"
        );
        assert_eq!(dataset.compact(compact(2)).await.unwrap(), 0, "once is enough");
        dataset.gc(&Gc { older_than: Duration::ZERO, dry_run: false }).await.unwrap();
        assert_eq!(files(&folder), 1);
        assert_eq!(numbers(&dataset, &At::Newest).await, rows);
    }

    #[tokio::test]
    async fn rows_that_are_too_old_go_for_good_and_those_without_a_time_stay() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = grown(&folder).await;
        let expired = dataset.expire("at", UnixMillis(15 * DAY), "capture").await.unwrap().unwrap();
        assert_eq!(expired.rows, 15);
        assert_eq!(numbers(&dataset, &At::Newest).await, [15, 16, 17, 18, 19, 99]);
        assert_eq!(numbers(&dataset, &At::Version(19)).await.len(), 21, "until garbage is collected");
        assert_eq!(dataset.expire("at", UnixMillis(15 * DAY), "capture").await.unwrap(), None);
        let log = dataset.log(Some(1)).await.unwrap();
        assert_eq!((log[0].how.as_str(), log[0].rows), ("expire", Some(6)));
        // The name is that of the same rows however they came.
        let named = dataset.show(&At::Newest).await.unwrap().name;
        let path = folder.path().join("same.csv");
        let lines = (15..20).map(|n| format!("{n},{}\n", UnixMillis(n * DAY).rfc3339()));
        std::fs::write(&path, format!("n,at\n99,\n{}", lines.collect::<String>())).unwrap();
        let same = dataset.warehouse.dataset("same").unwrap();
        let added = same.add(&Source::file(path), &Change::default()).await.unwrap();
        assert_eq!(Some(added.name), named.into());
        dataset.gc(&Gc { older_than: Duration::ZERO, dry_run: false }).await.unwrap();
        assert!(dataset.read(&At::Version(3), &Select::default()).await.is_err() || files(&folder) == 1);
        assert_eq!(files(&folder), 1);
        let e = dataset.expire("n", UnixMillis(0), "capture").await.unwrap_err();
        assert!(e.to_string().contains("no time"), "{e}");
    }
}

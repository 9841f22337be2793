//! The versions of a dataset, and what is known of each.

use std::ops::Range;

use contract::UnixMillis;
use deltalake::DeltaTable;

use crate::dataset::facts::{Facts, entry};
use crate::dataset::{At, Dataset, number};
use crate::source::Origin;
use crate::{Error, Name, Schema};

/// A version, as the log tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number: the one that every reader of Delta tables knows it by.
    pub version: u64,
    /// Its content name; `None` when another writer made it.
    pub name: Option<Name>,
    /// Rows in it, when that is known.
    pub rows: Option<u64>,
    /// Rows that were written.
    pub written: Option<u64>,
    /// When it was made, by its writer's clock. Where a clock went back it is the time of the version before: versions never get
    /// older.
    pub at: Option<UnixMillis>,
    /// What was done: append, overwrite, merge, or another writer's word for it.
    pub how: String,
    /// Where the rows came from.
    pub source: Option<String>,
    /// Where they were fetched from, when they were.
    pub origin: Option<Origin>,
    /// Who made it.
    pub who: Option<String>,
    /// Why.
    pub message: Option<String>,
    /// The attempt at a gate that made it, as the quarantine names it; `None` when no expectations were looked at.
    pub checked: Option<String>,
    /// The key of the effect that made it, when it is one that must not be made twice.
    pub effect: Option<String>,
    /// Whether its rows or columns differ from those of the version before, as far as the log says.
    pub changes: bool,
    /// The tags that name it.
    pub tags: Vec<String>,
}

/// A version in full.
#[derive(Debug, Clone)]
pub struct Shown {
    /// What the log says.
    pub version: Version,
    /// Its content name, worked out when the log does not hold it.
    pub name: Name,
    /// Rows in it.
    pub rows: u64,
    /// Its columns.
    pub schema: Schema,
    /// Its data files.
    pub files: usize,
    /// Their size, in bytes.
    pub bytes: u64,
}

impl Dataset {
    /// The versions, the newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::Storage`].
    pub async fn log(&self, limit: Option<usize>) -> Result<Vec<Version>, Error> {
        let table = self.existing().await?;
        let newest = number(&table);
        let first = limit.map_or(0, |limit| (newest + 1).saturating_sub(limit as u64));
        self.versions(&table, first..newest + 1).await
    }

    /// The newest version whose rows or columns differ from those of the one before, as far as the log says: collecting garbage
    /// and putting files together make versions too. `None` when there is no version.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn newest_change(&self) -> Result<Option<u64>, Error> {
        let Some(table) = self.current().await? else { return Ok(None) };
        let log = table.log_store();
        let mut version = number(&table);
        while let Some(entry) = entry(&*log, &self.name, version).await? {
            if entry.changes || entry.facts.is_some() || version == 0 {
                break;
            }
            version -= 1;
        }
        Ok(Some(version))
    }

    /// The newest of the versions before `before` that changed rows or columns, at most `limit`.
    pub(super) async fn changes(&self, before: Option<u64>, limit: usize) -> Result<Vec<Version>, Error> {
        let table = self.existing().await?;
        let mut end = before.unwrap_or(u64::MAX).min(number(&table) + 1);
        let mut found = Vec::new();
        while end > 0 && found.len() < limit {
            let first = end.saturating_sub(limit as u64);
            let versions = self.versions(&table, first..end).await?;
            if versions.is_empty() {
                break;
            }
            found.extend(versions.into_iter().filter(|v| v.changes));
            end = first;
        }
        found.truncate(limit);
        Ok(found)
    }

    /// These versions, the newest first.
    async fn versions(&self, table: &DeltaTable, range: Range<u64>) -> Result<Vec<Version>, Error> {
        let tags = self.tags().await?;
        let log = table.log_store();
        let mut versions = Vec::new();
        let mut latest = UnixMillis(i64::MIN);
        let mut held: Option<Facts> = None;
        if let Some(before) = range.start.checked_sub(1) {
            held = self.facts(&*log, before).await?;
            let at = entry(&*log, &self.name, before).await?.and_then(|entry| entry.at);
            latest = at.map_or(latest, UnixMillis);
        }
        for version in range {
            // Entries before a foreign checkpoint may be gone; those that are left are still told.
            let Some(entry) = entry(&*log, &self.name, version).await? else { continue };
            let at = entry.at.map(UnixMillis).map(|at| at.max(latest));
            latest = at.unwrap_or(latest);
            if entry.facts.is_some() || entry.changes {
                held.clone_from(&entry.facts);
            }
            let own = entry.facts.as_ref();
            versions.push(Version {
                version,
                name: held.as_ref().and_then(Facts::name),
                rows: held.as_ref().map(|f| f.rows),
                written: own.map(|f| f.written),
                at,
                how: own.map(|f| f.how.clone()).or(entry.operation).unwrap_or_default(),
                source: own.and_then(|f| f.source.clone()),
                origin: own.and_then(|f| f.origin.clone()),
                who: own.and_then(|f| f.who.clone()),
                message: own.and_then(|f| f.message.clone()),
                checked: own.and_then(|f| f.checked.clone()),
                effect: own.and_then(|f| f.effect.clone()),
                changes: entry.changes || own.is_some(),
                tags: tags.iter().filter(|t| t.version == version).map(|t| t.tag.clone()).collect(),
            });
        }
        versions.reverse();
        Ok(versions)
    }

    /// A version in full. Reads all of its rows if another writer made it.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`], [`Error::Storage`].
    pub async fn show(&self, at: &At) -> Result<Shown, Error> {
        let number = self.resolve(at).await?;
        let table = self.at_version(number).await?;
        let schema = self.schema_of(&table)?;
        let fingerprint = self.fingerprint(&table).await?;
        let state = table.snapshot().map_err(|e| crate::store::table("show", &self.name, &e))?;
        let (mut files, mut bytes) = (0, 0);
        for file in state.snapshot().log_data().iter() {
            files += 1;
            bytes += u64::try_from(file.size()).unwrap_or_default();
        }
        let Some(version) = self.versions(&table, number..number + 1).await?.pop() else {
            let hint = "its entry of the log is not kept any more".to_owned();
            return Err(Error::NoVersion { dataset: self.name.to_string(), at: at.to_string(), hint });
        };
        Ok(Shown { version, name: fingerprint.name(&schema), rows: fingerprint.rows, schema, files, bytes })
    }
}

//! Changes that are made once, however often they are tried: the log says whether one was made already.

use deltalake::DeltaTable;

use crate::Error;
use crate::dataset::facts::{Facts, entry};
use crate::dataset::{Added, Dataset, Effect, number};

/// A writer's clock may be off by so much, in milliseconds.
const SKEW_MS: i64 = 3_600_000;

impl Dataset {
    /// The version that an effect made, as far back as it can be; `None` when it is still to be made.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn made_by(&self, effect: &Effect) -> Result<Option<Added>, Error> {
        match self.current().await? {
            Some(table) => self.made(&table, Some(effect), &mut None).await,
            None => Ok(None),
        }
    }

    /// The same among the versions up to the table's and behind `looked`, which moves on to it. A commit on top of this table
    /// is then the effect's first, for nobody else can have made the version between.
    pub(super) async fn made(
        &self,
        table: &DeltaTable,
        effect: Option<&Effect>,
        looked: &mut Option<u64>,
    ) -> Result<Option<Added>, Error> {
        let Some(effect) = effect else { return Ok(None) };
        if table.version().is_none() {
            return Ok(None);
        }
        let newest = number(table);
        let first = looked.map_or(0, |looked| looked + 1);
        let log = table.log_store();
        let earliest = effect.since.map_or(i64::MIN, |since| since.0.saturating_sub(SKEW_MS));
        for version in (first..=newest).rev() {
            let Some(entry) = entry(&*log, &self.name, version).await? else { break };
            if entry.at.is_some_and(|at| at < earliest) {
                break;
            }
            let Some(facts) = entry.facts else { continue };
            if facts.effect.as_deref() == Some(effect.key.as_str()) {
                return Ok(Some(self.added_by(version, &facts).await?));
            }
        }
        *looked = Some(newest);
        Ok(None)
    }

    async fn added_by(&self, version: u64, facts: &Facts) -> Result<Added, Error> {
        let table = self.at_version(version).await?;
        let schema = self.schema_of(&table)?;
        let fingerprint = self.fingerprint(&table).await?;
        let (name, rows) = (fingerprint.name(&schema), fingerprint.rows);
        let lineage = facts.lineage.clone().and_then(|l| serde_json::from_value(l).ok());
        let grown = facts.how != "overwrite";
        Ok(Added {
            version,
            name,
            rows,
            read: facts.written,
            replaced: 0,
            new: false,
            schema,
            lineage,
            grown,
        })
    }
}

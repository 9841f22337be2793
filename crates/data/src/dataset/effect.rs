//! Changes that are made once, however often they are tried: the table says whether one was made already.
//!
//! An effect is an application transaction of the Delta protocol (`txn`): its `appId` is the effect's, its `version` the number of
//! the commit that holds it. Every reader and writer of the format keeps these as it keeps the schema, in checkpoints too, and they
//! do not expire unless they say when they were written, which ours do not. So an effect is found however old it is and whatever
//! the clocks of writers said, by reading a checkpoint and the entries after it: as many as lie between two checkpoints, at most.
//! The price is a row of each checkpoint for each effect.

use deltalake::DeltaTable;
use deltalake::kernel::Transaction;

use crate::dataset::facts::{Facts, entry};
use crate::dataset::{Added, Dataset, Effect};
use crate::{Error, store};

/// What a table knows an effect by.
fn app(key: &str) -> String {
    format!("forebay.effect/{key}")
}

/// What a quarantine knows entries by, whoever brings them.
fn says(name: &str) -> String {
    format!("forebay.held/{name}")
}

/// What the commit that becomes `version` says of what must not be made twice.
pub(super) fn transactions(facts: &Facts, version: u64) -> Vec<Transaction> {
    let (effect, held) = (facts.effect.as_deref().map(app), facts.held.as_deref().map(says));
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    effect.into_iter().chain(held).map(|app| Transaction::new(app, version)).collect()
}

impl Dataset {
    /// The version that an effect made; `None` when it is still to be made.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn made_by(&self, effect: &Effect) -> Result<Option<Added>, Error> {
        match self.current().await? {
            Some(table) => self.made(&table, Some(effect)).await,
            None => Ok(None),
        }
    }

    /// The same among the versions up to the table's. A commit on top of this table is then the effect's first, for nobody else can
    /// have made the version between.
    pub(super) async fn made(
        &self,
        table: &DeltaTable,
        effect: Option<&Effect>,
    ) -> Result<Option<Added>, Error> {
        let Some(effect) = effect.filter(|_| table.version().is_some()) else { return Ok(None) };
        let Some((version, facts)) = self.by_transaction(table, app(&effect.key)).await? else {
            return Ok(None);
        };
        match facts.filter(|facts| facts.effect.as_deref() == Some(effect.key.as_str())) {
            Some(facts) => Ok(Some(self.added_by(version, &facts).await?)),
            // It was made, so it is not made again; but nobody knows what it was.
            None => {
                let why = format!(
                    "it was done by version {version}, whose entry of the log does not say so any more"
                );
                Err(self.defect("look for what was done in", &why))
            }
        }
    }

    /// The commit of a quarantine whose entries say the same.
    pub(super) async fn holding(
        &self,
        table: &DeltaTable,
        name: &str,
    ) -> Result<Option<(u64, Facts)>, Error> {
        if table.version().is_none() {
            return Ok(None);
        }
        let found = self.by_transaction(table, says(name)).await?;
        Ok(found.and_then(|(version, facts)| Some((version, facts?))))
    }

    /// The newest commit with a transaction, and what it says of itself.
    async fn by_transaction(
        &self,
        table: &DeltaTable,
        app: String,
    ) -> Result<Option<(u64, Option<Facts>)>, Error> {
        let failed = |e| store::table("look for what was done in", &self.name, &e);
        let (state, log) = (table.snapshot().map_err(failed)?, table.log_store());
        let found = state.transaction_version(&*log, app).await.map_err(failed)?;
        let Some(version) = found.and_then(|version| u64::try_from(version).ok()) else { return Ok(None) };
        let facts = entry(&*log, &self.name, version).await?.and_then(|entry| entry.facts);
        Ok(Some((version, facts)))
    }

    pub(super) async fn added_by(&self, version: u64, facts: &Facts) -> Result<Added, Error> {
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

//! A dataset: a Delta table whose every version has a name by its content.

mod add;
mod at;
mod commit;
mod diff;
mod effect;
mod export;
mod extend;
mod facts;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod foreign;
mod gate;
mod gc;
mod gone;
mod log;
mod merge;
mod part;
mod profile;
mod put;
mod quarantine;
mod read;
mod release;
mod report;
mod result;
mod sieve;
mod since;
mod stage;
mod tag;
mod unique;
mod upkeep;
mod validate;

use std::sync::Arc;

use deltalake::DeltaTable;
use deltalake::logstore::{StorageConfig, default_logstore};
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::warehouse::Warehouse;
use crate::{Error, Schema, store};

pub use add::{Added, Change, Effect, How};
pub use at::At;
pub use diff::Diff;
pub use extend::{Adds, Values};
pub(crate) use extend::{Extending, Unmade};
pub use gate::{Gate, Gated, Policy};
pub use gc::{Collected, Gc};
pub(crate) use gone::explained;
pub use log::{Shown, Version};
pub use quarantine::{Attempt, Quarantined};
pub(crate) use read::cell;
pub use read::{Batch, Rows, Select};
pub use release::Released;
pub(crate) use result::On;
pub(crate) use sieve::{Looked, Sieved};
pub use tag::Tag;
pub use upkeep::{Compact, Expired};

/// A dataset of a warehouse. Cheap to clone; holds nothing of the table, so that every call sees its newest version.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(crate) warehouse: Warehouse,
    pub(crate) name: Arc<str>,
    url: Url,
}

impl Dataset {
    pub(crate) fn new(warehouse: Warehouse, name: &str) -> Result<Dataset, Error> {
        let url = warehouse.inner.root.join(&format!("{name}/"));
        let url = url.map_err(|e| Error::invalid(format!("the dataset's name `{name}`"), e.to_string()))?;
        Ok(Dataset { warehouse, name: name.into(), url })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a version of it.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn exists(&self) -> Result<bool, Error> {
        let table = self.table()?;
        let log = table.log_store();
        log.is_delta_table_location().await.map_err(|e| store::table("look for", &self.name, &e))
    }

    /// The store of the table's own folder.
    pub(crate) fn store(&self) -> Arc<dyn ObjectStore> {
        let inner = &self.warehouse.inner;
        Arc::new(PrefixStore::new(Arc::clone(&inner.store), inner.prefix.clone().join(&*self.name)))
    }

    /// The table, nothing read yet.
    fn table(&self) -> Result<DeltaTable, Error> {
        // Whatever the scheme: a store that writes an entry only if there is none needs nothing beside itself.
        let root = Arc::clone(&self.warehouse.inner.store);
        let log = default_logstore(self.store(), root, &self.url, &StorageConfig::default());
        Ok(DeltaTable::new(log))
    }

    /// The newest version, `None` when there is none.
    pub(crate) async fn current(&self) -> Result<Option<DeltaTable>, Error> {
        let mut table = self.table()?;
        if !self.exists().await? {
            return Ok(None);
        }
        table.load().await.map_err(|e| store::table("open", &self.name, &e))?;
        Ok(Some(table))
    }

    /// The newest version, which has to be there.
    pub(crate) async fn existing(&self) -> Result<DeltaTable, Error> {
        match self.current().await? {
            Some(table) => Ok(table),
            None => {
                let names = self.warehouse.datasets().await?;
                let hint = if names.is_empty() {
                    "there is none yet: `forebay data add` makes one".to_owned()
                } else {
                    format!("there are {}", names.join(", "))
                };
                Err(Error::NoDataset { name: self.name.to_string(), hint })
            }
        }
    }

    /// That version.
    pub(crate) async fn at_version(&self, version: u64) -> Result<DeltaTable, Error> {
        let mut table = self.table()?;
        table.load_version(version).await.map_err(|e| store::table("open", &self.name, &e))?;
        Ok(table)
    }

    /// The columns of a version.
    pub(crate) fn schema_of(&self, table: &DeltaTable) -> Result<Schema, Error> {
        let state = table.snapshot().map_err(|e| store::table("read the columns of", &self.name, &e))?;
        Schema::from_arrow(&state.snapshot().arrow_schema()).map_err(|(column, ty)| Error::Table {
            doing: "read the columns of",
            dataset: self.name.to_string(),
            why: format!("the column `{column}` is of type {ty}, which is not supported"),
        })
    }
}

/// The number of a table's version.
pub(crate) fn number(table: &DeltaTable) -> u64 {
    table.version().unwrap_or_default()
}

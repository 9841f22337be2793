//! A database, as far as the rest of the program knows it: the stores that are in it.
//!
//! One conformance suite (`testkit::stores`) says what every implementation must do. SQLite, a file that one process at a time
//! works on, is here ([`crate::Database`]); a database that several processes share is an engine, which the binary brings in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::BoxFuture;

use crate::tracking::Tracking;
use crate::{
    BatchStore, CacheStore, Error, FileStore, KeyStore, LedgerStore, LineageStore, MemoryStore, ResultStore,
    RunStore,
};

/// An open database with the current schema.
pub trait Backend: Send + Sync + std::fmt::Debug {
    /// The ledger behind the journal of the folder that the database was opened for.
    fn ledger(&self) -> Arc<dyn LedgerStore>;
    /// The keys.
    fn keys(&self) -> Arc<dyn KeyStore>;
    /// The runs.
    fn runs(&self) -> Arc<dyn RunStore>;
    /// What stages of runs made.
    fn results(&self) -> Arc<dyn ResultStore>;
    /// What was made of what.
    fn lineage(&self) -> Arc<dyn LineageStore>;
    /// What triggers have seen.
    fn triggers(&self) -> Arc<dyn MemoryStore>;
    /// How what is watched stands.
    fn watching(&self) -> Arc<dyn MemoryStore>;
    /// Experiments, tracked runs and models.
    fn tracking(&self) -> Tracking;
    /// The batches.
    fn batches(&self) -> Arc<dyn BatchStore>;
    /// The part cache, never more than `max_bytes` of it.
    fn cache(&self, max_bytes: u64) -> BoxFuture<'_, Result<Arc<dyn CacheStore>, Error>>;
    /// Callers' files; contents that are not in the database are in `folder`. Only the writer of the folder opens them.
    fn files(&self, folder: PathBuf) -> BoxFuture<'_, Result<Arc<dyn FileStore>, Error>>;
    /// Closes every connection, after what they are doing.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The name of the journal in `project`, made when there is none yet: what tells it from those of other folders whose records
/// go to the same database. A copy of the folder has the same name, and may not write beside it.
///
/// # Errors
/// [`Error::Unwritable`], [`Error::Random`].
pub fn journal_name(project: &Path) -> Result<String, Error> {
    let folder = crate::project::folder(project)?;
    let path = folder.join("journal.name");
    let unwritable = |source| Error::Unwritable { path: path.clone(), source };
    let read = || match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|name| !name.is_empty())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    };
    if let Some(name) = read().map_err(unwritable)? {
        return Ok(name);
    }
    let mut bytes = [0; 16];
    crate::os_random(&mut bytes)?;
    let name: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    // Whole or not there: whoever comes second takes the first one's.
    let part = folder.join(format!("journal.name.{name}"));
    std::fs::write(&part, &name).map_err(unwritable)?;
    let linked = std::fs::hard_link(&part, &path);
    std::fs::remove_file(&part).map_err(unwritable)?;
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(unwritable(e)),
        _ => Ok(read().map_err(unwritable)?.unwrap_or(name)),
    }
}

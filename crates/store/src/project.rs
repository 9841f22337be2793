//! The storage of one project folder: `.forebay/{forebay.db, journal/, files/, writer.lock}`. The journal and the lock are the
//! folder's also when the database is elsewhere, and shared with the writers of other folders.
//!
//! Any number of processes may read it and change its keys; one at a time is the writer of the ledger ([`Store`]), which
//! a file lock decides that the system releases with the process, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{RequestId, RequestRecord, UnixMillis};

use crate::journal::{self, Disk, RealDisk};
use crate::ledger::{self, bill};
use crate::tracking::Tracking;
use crate::{
    Backend, BatchStore, CacheStore, CostBy, CostRow, Database, Error, FileStore, Filter, KeyRing, KeyStore,
    Ledger, LedgerStore, LineageStore, MemoryStore, Recovery, ResultStore, RunStore, Settings,
};

/// How soon a running server sees a key that another process made or revoked.
const FOLLOW_KEYS: Duration = Duration::from_millis(250);

/// How often a sum is taken again because the ledger moved on meanwhile.
const LOOKS: u32 = 8;

/// Reads a project's ledger beside its writer, or without one.
#[derive(Clone)]
pub struct Reader {
    journal: PathBuf,
    /// The ledger, without what is still in the journal.
    pub ledger: Arc<dyn LedgerStore>,
    /// The keys.
    pub keys: Arc<dyn KeyStore>,
    /// The runs.
    pub runs: Arc<dyn RunStore>,
    /// What stages of runs made.
    pub results: Arc<dyn ResultStore>,
    /// What was made of what.
    pub lineage: Arc<dyn LineageStore>,
    /// Experiments, tracked runs and models.
    pub tracking: Tracking,
    /// The batches.
    pub batches: Arc<dyn BatchStore>,
    /// What triggers have seen.
    pub triggers: Arc<dyn MemoryStore>,
    /// How what is watched stands.
    pub watching: Arc<dyn MemoryStore>,
    backend: Arc<dyn Backend>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("backend", &self.backend).finish_non_exhaustive()
    }
}

pub(crate) fn folder(project: &Path) -> Result<PathBuf, Error> {
    let folder = project.join(".forebay");
    let unwritable = |source| Error::Unwritable { path: folder.clone(), source };
    std::fs::create_dir_all(project).map_err(unwritable)?;
    let mut builder = std::fs::DirBuilder::new();
    // Who pays for what is nobody else's business on a machine that is shared.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(&folder).map_err(unwritable)?;
    Ok(folder)
}

impl Reader {
    /// Opens the storage of the project in `project`, creating it when there is none.
    pub async fn open(project: &Path) -> Result<Reader, Error> {
        let folder = folder(project)?;
        let database = Database::open(&folder.join("forebay.db")).await?;
        Reader::open_on(project, Arc::new(database))
    }

    /// The same, with the database elsewhere.
    ///
    /// # Errors
    /// [`Error::Unwritable`].
    pub fn open_on(project: &Path, backend: Arc<dyn Backend>) -> Result<Reader, Error> {
        Ok(Reader {
            journal: folder(project)?.join("journal"),
            ledger: backend.ledger(),
            keys: backend.keys(),
            runs: backend.runs(),
            results: backend.results(),
            lineage: backend.lineage(),
            tracking: backend.tracking(),
            batches: backend.batches(),
            triggers: backend.triggers(),
            watching: backend.watching(),
            backend,
        })
    }

    /// The record of a request: from the database, or from the journal when it is not there yet.
    pub async fn get(&self, id: RequestId) -> Result<Option<RequestRecord>, Error> {
        if let Some(found) = self.ledger.get(id).await? {
            return Ok(Some(found));
        }
        if let Some(found) = self.pending().await?.into_iter().find(|r| r.id == id) {
            return Ok(Some(found));
        }
        // It may have moved from the journal to the database between the two looks.
        self.ledger.get(id).await
    }

    /// The newest records first, those still in the journal included.
    pub async fn recent(&self, limit: u32, filter: &Filter) -> Result<Vec<RequestRecord>, Error> {
        let mut found = self.pending().await?;
        found.retain(|r| filter.matches(r));
        found.extend(self.ledger.recent(limit, filter).await?);
        found.sort_by_key(|r| std::cmp::Reverse((r.at, r.id)));
        found.dedup_by_key(|r| r.id);
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    /// Sums of `from ≤ at < to`, dearest first (days in order), records that are still in the journal included.
    pub async fn costs(&self, by: CostBy, from: UnixMillis, to: UnixMillis) -> Result<Vec<CostRow>, Error> {
        for _ in 0..LOOKS {
            let position = self.ledger.position().await?;
            let pending = self.pending().await?;
            let mut rows = self.ledger.costs(by, from, to).await?;
            // Records that moved in between would count twice or not at all: look again. A commit comes every 50 ms.
            if pending.is_empty() || self.ledger.position().await? == position {
                bill::add(&mut rows, &pending, by, from, to);
                return Ok(rows);
            }
        }
        // A ledger so busy, and so long, that each sum takes longer than a commit: the sum lags by one.
        self.ledger.costs(by, from, to).await
    }

    /// Records that the journal holds and the database does not.
    async fn pending(&self) -> Result<Vec<RequestRecord>, Error> {
        let from = self.ledger.position().await?;
        let folder = self.journal.clone();
        let settled = |p: &Vec<u8>| ledger::record(p);
        // The journal may be long when the database lags: it is read aside, not on a thread that serves streams.
        let read = tokio::task::spawn_blocking(move || {
            journal::read_after(&folder, from).map(|b| b.payloads.iter().filter_map(settled).collect())
        });
        let read = read.await.map_err(std::io::Error::from).flatten();
        read.map_err(|e| Error::Journal(e.to_string()))
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.backend.close().await;
    }
}

/// The storage of a project, opened by its one writer.
pub struct Store {
    /// Acknowledges and writes records.
    pub ledger: Ledger,
    /// Reads the ledger and changes the keys.
    pub reader: Reader,
    /// The keys in memory.
    pub keys: KeyRing,
    /// The part cache.
    pub cache: Arc<dyn CacheStore>,
    /// Files that callers left.
    pub files: Arc<dyn FileStore>,
    /// What the start found.
    pub recovery: Recovery,
    _lock: File,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("reader", &self.reader).finish_non_exhaustive()
    }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("writer.lock");
    let unwritable = |source| Error::Unwritable { path: path.clone(), source };
    let options = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
    let mut file = options.map_err(unwritable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).ok().and_then(|t| t.trim().parse().ok());
            return Err(Error::Locked { path, pid });
        }
        Err(TryLockError::Error(e)) => return Err(unwritable(e)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(unwritable)?;
    Ok(file)
}

impl Store {
    /// Takes the folder's lock, opens everything and recovers what a dead process left. `cache_bytes` bounds the part
    /// cache.
    pub async fn open(project: &Path, settings: Settings, cache_bytes: u64) -> Result<Store, Error> {
        Store::open_on(project, settings, cache_bytes, Arc::new(RealDisk)).await
    }

    /// The same, with the journal on `disk`.
    pub async fn open_on(
        project: &Path,
        settings: Settings,
        cache_bytes: u64,
        disk: Arc<dyn Disk>,
    ) -> Result<Store, Error> {
        let lock = lock(&folder(project)?)?;
        let reader = Reader::open(project).await?;
        Store::over(project, settings, cache_bytes, disk, (lock, reader)).await
    }

    /// The same, with the database elsewhere.
    pub async fn open_with(
        project: &Path,
        settings: Settings,
        cache_bytes: u64,
        backend: Arc<dyn Backend>,
    ) -> Result<Store, Error> {
        let lock = lock(&folder(project)?)?;
        let reader = Reader::open_on(project, backend)?;
        Store::over(project, settings, cache_bytes, Arc::new(RealDisk), (lock, reader)).await
    }

    async fn over(
        project: &Path,
        settings: Settings,
        cache_bytes: u64,
        disk: Arc<dyn Disk>,
        (lock, reader): (File, Reader),
    ) -> Result<Store, Error> {
        let (ledger, recovery) = Ledger::open(&reader.journal, reader.ledger.clone(), disk, settings).await?;
        let keys = KeyRing::load(&*reader.keys).await?;
        let cache = reader.backend.cache(cache_bytes).await?;
        let files = reader.backend.files(folder(project)?.join("files")).await?;
        Ok(Store { ledger, reader, keys, cache, files, recovery, _lock: lock })
    }

    /// What must run while the server does, spawned once by the wiring: the ledger's writer and the follower of the keys.
    /// Ends after [`Ledger::close`], when everything is in the database.
    pub fn background(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let writer = self.ledger.clone().writer();
        let store: Arc<dyn KeyStore> = self.reader.keys.clone();
        let follow = self.keys.clone().follow(store, FOLLOW_KEYS);
        async move {
            tokio::select! {
                ended = writer => ended,
                () = follow => Ok(()),
            }
        }
    }
}

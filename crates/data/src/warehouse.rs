//! Where datasets live: a folder or a prefix of a bucket, one Delta table below it per dataset.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use contract::Clock;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

use crate::dataset::Dataset;
use crate::turns::Turns;
use crate::{Error, bucket, store};

/// Rows of a batch where all rows of a version are gone over.
const SCAN_ROWS: usize = 16_384;

/// What work on datasets may use.
#[derive(Clone)]
pub struct Settings {
    /// Memory for sorting, joining and grouping, in bytes, over all work at once. What needs more goes through files.
    /// A validation with `unique` may hold half as much again, of hashes.
    pub memory_bytes: usize,
    /// Where those files go, and rows on their way from one place to another; the system's temporary folder when it is not given.
    pub spill: Option<PathBuf>,
    /// The size of a data file, about, in bytes. Larger files scan faster, smaller ones are cheaper to rewrite.
    pub file_bytes: u64,
    /// How to reach a bucket, under the names that AWS's own programs know from the environment: `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`, … A folder needs none.
    pub store: BTreeMap<String, String>,
}

impl std::fmt::Debug for Settings {
    /// Of the store names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("memory_bytes", &self.memory_bytes)
            .field("spill", &self.spill)
            .field("file_bytes", &self.file_bytes)
            .field("store", &self.store.keys().collect::<Vec<_>>())
            .finish()
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { memory_bytes: 1 << 30, spill: None, file_bytes: 64 << 20, store: BTreeMap::new() }
    }
}

/// A folder of datasets. Cheap to clone.
#[derive(Clone)]
pub struct Warehouse {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) root: Url,
    /// Where `root` is in `store`.
    pub(crate) prefix: Path,
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) turns: Turns,
    runtime: Arc<RuntimeEnv>,
}

impl Warehouse {
    /// Opens the folder of that path or `file:` URL, and creates it when it is not there; or the prefix of a bucket that
    /// `s3://BUCKET/PREFIX` names, of which nothing is read yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a URL that is neither, [`Error::Storage`] when the folder cannot be created.
    pub fn open(root: &str, clock: Arc<dyn Clock>, settings: Settings) -> Result<Warehouse, Error> {
        let path = match Url::parse(root) {
            Ok(url) if url.scheme() == "file" => url.to_file_path().map_err(|()| {
                Error::invalid(format!("the warehouse `{root}`"), "a `file:` URL names a full path")
            })?,
            Ok(url) if url.scheme() == "s3" => return Warehouse::bucket(&url, clock, settings),
            Ok(url) if url.scheme().len() > 1 => {
                let why = format!(
                    "`{}:` is not a store that is known; give a folder or `s3://BUCKET/PREFIX`",
                    url.scheme()
                );
                return Err(Error::invalid(format!("the warehouse `{root}`"), why));
            }
            _ => PathBuf::from(root),
        };
        let failed =
            |e: std::io::Error| Error::Storage { doing: "open the warehouse", why: format!("`{root}`: {e}") };
        std::fs::create_dir_all(&path).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let url = Url::from_directory_path(&path)
            .map_err(|()| Error::invalid(format!("the warehouse `{root}`"), "its path is not a full one"))?;
        Warehouse::over(url, Arc::new(LocalFileSystem::new()), clock, settings)
    }

    /// Opens a prefix of a bucket. What makes versions safe there is that the store writes an entry of the log only if there is
    /// none (`If-None-Match: *`), which S3 and what speaks its protocol does since 2024.
    fn bucket(url: &Url, clock: Arc<dyn Clock>, settings: Settings) -> Result<Warehouse, Error> {
        let refused = |why: String| Error::invalid(format!("the warehouse `{url}`"), why);
        let store = bucket::open(url, &settings.store).map_err(refused)?;
        let mut root = url.clone();
        if !root.path().ends_with('/') {
            root.set_path(&format!("{}/", url.path()));
        }
        Warehouse::over(root, Arc::new(store), clock, settings)
    }

    /// A warehouse at `root` in a store whose own root is that of the URL's.
    pub(crate) fn over(
        root: Url,
        store: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Warehouse, Error> {
        let prefix = Path::from_url_path(root.path())
            .map_err(|e| Error::invalid(format!("the warehouse `{root}`"), e.to_string()))?;
        let mut runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(settings.memory_bytes)));
        if let Some(spill) = &settings.spill {
            runtime = runtime.with_temp_file_path(spill);
        }
        let runtime = runtime.build_arc().map_err(|e| Error::Storage {
            doing: "prepare the folder for spilled data",
            why: e.to_string(),
        })?;
        Ok(Warehouse {
            inner: Arc::new(Inner { root, prefix, store, clock, settings, turns: Turns::default(), runtime }),
        })
    }

    /// The dataset of that name, which need not exist yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not letters, digits, `_`, `-` and `.`, or begins with one of the last three.
    pub fn dataset(&self, name: &str) -> Result<Dataset, Error> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        let begins = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !begins || !name.bytes().all(plain) || name.len() > 128 {
            let why =
                "a name is up to 128 letters, digits, `_`, `-` and `.`, and begins with a letter or a digit";
            return Err(Error::invalid(format!("the dataset's name `{name}`"), why));
        }
        Dataset::new(self.clone(), name)
    }

    /// The names of the datasets there are, in order.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn datasets(&self) -> Result<Vec<String>, Error> {
        let listed = self.inner.store.list_with_delimiter(Some(&self.inner.prefix)).await;
        let listed = listed.map_err(|e| store::failed("list the datasets", &e))?;
        let mut names = Vec::new();
        for folder in listed.common_prefixes {
            let Some(name) = folder.filename() else { continue };
            let Ok(dataset) = self.dataset(name) else { continue };
            if dataset.exists().await? {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// A session of the query engine, within the limits of the warehouse.
    pub(crate) fn session(&self) -> SessionContext {
        self.session_with(SessionConfig::new())
    }

    /// The same on one core: what stands one after the other in a file comes so.
    pub(crate) fn session_of_one(&self) -> SessionContext {
        self.session_with(SessionConfig::new().with_target_partitions(1))
    }

    /// The same for going over all rows of a version: what is done once for each batch is done for more of them.
    pub(crate) fn session_of_scan(&self) -> SessionContext {
        self.session_of_batches(SessionConfig::new(), SCAN_ROWS)
    }

    fn session_with(&self, config: SessionConfig) -> SessionContext {
        self.session_of_batches(config, crate::source::BATCH_ROWS)
    }

    fn session_of_batches(&self, config: SessionConfig, rows: usize) -> SessionContext {
        let mut config = config.with_batch_size(rows);
        // A hash join keeps a side in memory and cannot spill; a merge join sorts through files.
        config.options_mut().optimizer.prefer_hash_join = false;
        SessionContext::new_with_config_rt(config, Arc::clone(&self.inner.runtime))
    }
}

impl std::fmt::Debug for Warehouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Warehouse").field("root", &self.inner.root.as_str()).finish_non_exhaustive()
    }
}

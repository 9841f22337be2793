//! Disks that fill and stores that answer late, at every step of a change.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use contract::{ManualClock, UnixMillis};
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};
use url::Url;

use crate::dataset::{At, Change, Dataset, Gate, How, Policy, Select};
use crate::expect::{Config, Suite};
use crate::{Error, Settings, Source, Warehouse};

/// A disk that takes so many writes and is full then; and, when told to, does what it is asked and says it failed.
#[derive(Debug)]
struct Disk {
    inner: LocalFileSystem,
    writes: AtomicI64,
    lies: bool,
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a disk that fills")
    }
}

impl Disk {
    /// Whether this write fails.
    fn full(&self) -> bool {
        self.writes.fetch_sub(1, Ordering::SeqCst) <= 0
    }
}

fn full<T>() -> Result<T> {
    let source = Box::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
    Err(object_store::Error::Generic { store: "disk", source })
}

#[async_trait::async_trait]
impl ObjectStore for Disk {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.full() {
            true if self.lies => {
                self.inner.put_opts(at, payload, options).await?;
                full()
            }
            true => full(),
            false => self.inner.put_opts(at, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if self.full() { full() } else { self.inner.put_multipart_opts(at, options).await }
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        if self.full() { full() } else { self.inner.copy_opts(from, to, options).await }
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        if self.full() { full() } else { self.inner.rename_opts(from, to, options).await }
    }
}

/// A dataset in `folder` on a disk that takes `writes` writes.
fn on_disk(folder: &std::path::Path, writes: i64, lies: bool) -> Dataset {
    let disk = Disk { inner: LocalFileSystem::new(), writes: AtomicI64::new(writes), lies };
    let root = Url::from_directory_path(folder.canonicalize().unwrap()).unwrap();
    let clock = Arc::new(ManualClock::starting_at(UnixMillis(1)));
    Warehouse::over(root, Arc::new(disk), clock, Settings::default()).unwrap().dataset("x").unwrap()
}

fn source(folder: &std::path::Path, text: &str) -> Source {
    let path = folder.join("source.csv");
    std::fs::write(&path, text).unwrap();
    Source::file(path)
}

async fn count(dataset: &Dataset) -> usize {
    dataset.read(&At::Newest, &Select::default()).await.unwrap().all().await.unwrap().len()
}

#[tokio::test]
async fn a_disk_that_fills_at_any_write_leaves_the_previous_version() {
    for how in [How::Append, How::Overwrite, How::Merge { key: vec!["a".into()] }] {
        let folder = tempfile::tempdir().unwrap();
        let plenty = on_disk(folder.path(), i64::MAX, false);
        let first = plenty.add(&source(folder.path(), "a\n1\n2\n"), &Change::default()).await.unwrap();
        let change = Change { how: how.clone(), ..Change::default() };
        let mut writes = 0;
        loop {
            let tight = on_disk(folder.path(), writes, false);
            match tight.add(&source(folder.path(), "a\n3\n"), &change).await {
                Ok(added) => {
                    assert_eq!(added.version, 1, "{how:?}");
                    break;
                }
                Err(error) => {
                    assert!(
                        matches!(error, Error::Storage { .. }),
                        "{how:?} after {writes} writes: {error:?}"
                    );
                    let shown = plenty.show(&At::Newest).await.unwrap();
                    assert_eq!((shown.version.version, &shown.name), (0, &first.name));
                    assert_eq!(count(&plenty).await, 2);
                }
            }
            writes += 1;
            assert!(writes < 20, "{how:?} never succeeds");
        }
        assert!(writes >= 2, "{how:?}: the files and the commit were failed in turn");
    }
}

#[tokio::test]
async fn a_disk_that_fills_at_any_write_behind_a_gate_loses_no_row_and_shows_none_half() {
    let config =
        r#"{"expectations": [{"range": {"column": "a", "min": 0}}, {"unique": {"columns": ["a"]}}]}"#;
    let suite = Suite::new(&serde_json::from_str::<Config>(config).unwrap()).unwrap();
    let gate = Gate { suite, policy: Policy::Quarantine { max_share: 0.5 } };
    let folder = tempfile::tempdir().unwrap();
    let plenty = on_disk(folder.path(), i64::MAX, false);
    plenty.add(&source(folder.path(), "a\n1\n2\n"), &Change::default()).await.unwrap();
    let mut writes = 0;
    loop {
        let tight = on_disk(folder.path(), writes, false);
        let held = plenty.quarantine(None, 100).await.unwrap().len();
        match tight.add_checked(&source(folder.path(), "a\n3\n-1\n"), &Change::default(), &gate).await {
            Ok(gated) => {
                assert_eq!(gated.added.unwrap().version, 1);
                assert_eq!(plenty.quarantine(Some(&gated.attempt), 100).await.unwrap().len(), 1);
                break;
            }
            Err(error) => {
                assert!(matches!(error, Error::Storage { .. }), "after {writes} writes: {error:?}");
                assert_eq!(plenty.show(&At::Newest).await.unwrap().version.version, 0);
                assert_eq!(count(&plenty).await, 2);
                let now = plenty.quarantine(None, 100).await.unwrap().len();
                assert!(now == held || now == held + 1, "an attempt's rows are all there or none");
            }
        }
        writes += 1;
        assert!(writes < 20, "it never succeeds");
    }
    assert!(writes >= 4, "both tables' files and entries were failed in turn");
}

#[tokio::test]
async fn a_disk_that_fills_before_the_first_version_leaves_no_dataset() {
    let folder = tempfile::tempdir().unwrap();
    for writes in 0..2 {
        let tight = on_disk(folder.path(), writes, false);
        let error = tight.add(&source(folder.path(), "a\n1\n"), &Change::default()).await.unwrap_err();
        assert!(matches!(error, Error::Storage { .. }), "{error:?}");
        assert!(!tight.exists().await.unwrap());
    }
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_recognised_and_not_made_twice() {
    let folder = tempfile::tempdir().unwrap();
    let plenty = on_disk(folder.path(), i64::MAX, false);
    plenty.add(&source(folder.path(), "a\n1\n"), &Change::default()).await.unwrap();
    // One write for the data file; the entry of the log is written, and its answer is an error.
    let lying = on_disk(folder.path(), 1, true);
    let added = lying.add(&source(folder.path(), "a\n2\n"), &Change::default()).await.unwrap();
    assert_eq!((added.version, added.rows, added.new), (1, 2, true));
    assert_eq!(count(&plenty).await, 2);
    assert_eq!(plenty.log(None).await.unwrap().len(), 2);
}

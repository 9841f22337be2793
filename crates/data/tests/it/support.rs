//! A warehouse in a temporary folder.

use std::path::PathBuf;
use std::sync::Arc;

use contract::{ManualClock, UnixMillis};
use data::{Added, At, Change, Dataset, Error, How, Rows, Select, Settings, Source, Warehouse};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// 2026-01-01T00:00:00Z.
pub(crate) const START: i64 = 1_767_225_600_000;

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) warehouse: Warehouse,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(START)));
        let root = folder.path().join("warehouse");
        let warehouse = Warehouse::open(root.to_str().unwrap(), clock.clone(), Settings::default()).unwrap();
        Bench { folder, clock, warehouse }
    }

    pub(crate) fn dataset(&self, name: &str) -> Dataset {
        self.warehouse.dataset(name).unwrap()
    }

    pub(crate) fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn source(&self, name: &str, bytes: impl AsRef<[u8]>) -> Source {
        Source::file(self.file(name, bytes))
    }

    /// The data files that are in a dataset's folder, committed or not.
    pub(crate) fn data_files(&self, dataset: &str) -> usize {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("warehouse").join(dataset)) else {
            return 0;
        };
        entries.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|e| e == "parquet")).count()
    }
}

pub(crate) fn how(how: How) -> Change {
    Change { how, ..Change::default() }
}

pub(crate) fn merge(key: &[&str]) -> Change {
    how(How::Merge { key: key.iter().map(|k| (*k).to_owned()).collect() })
}

pub(crate) async fn append(dataset: &Dataset, source: &Source) -> Result<Added, Error> {
    dataset.add(source, &Change::default()).await
}

pub(crate) async fn overwrite(dataset: &Dataset, source: &Source) -> Result<Added, Error> {
    dataset.add(source, &how(How::Overwrite)).await
}

pub(crate) async fn rows(dataset: &Dataset, at: &At) -> Vec<Map<String, Value>> {
    let rows: Rows = dataset.read(at, &Select::default()).await.unwrap();
    rows.all().await.unwrap()
}

/// The rows as sorted lines of JSON: a dataset has no order.
pub(crate) async fn sorted(dataset: &Dataset, at: &At) -> Vec<String> {
    let mut lines: Vec<String> =
        rows(dataset, at).await.into_iter().map(|row| Value::Object(row).to_string()).collect();
    lines.sort();
    lines
}

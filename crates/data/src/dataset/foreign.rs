//! Tables that others write to: plain Delta, without facts, with columns as narrow as they like.

use std::sync::Arc;

use arrow::array::{Float32Array, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use contract::{ManualClock, UnixMillis};
use deltalake::DeltaTable;

use crate::{Change, Dataset, Error, How, Settings, Source, Warehouse, dataset::At};

struct Shared {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    dataset: Dataset,
}

impl Shared {
    fn new() -> Shared {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::starting_at(UnixMillis(1)));
        let root = folder.path().join("warehouse");
        let warehouse = Warehouse::open(root.to_str().unwrap(), clock.clone(), Settings::default()).unwrap();
        Shared { dataset: warehouse.dataset("x").unwrap(), folder, clock }
    }

    /// What another writer appends.
    async fn theirs(&self, ids: &[i32], partition: Option<&str>) -> DeltaTable {
        let fields = vec![
            Field::new("id", DataType::Int32, true),
            Field::new("x", DataType::Float32, true),
            Field::new("t", DataType::Utf8, true),
        ];
        let batch = RecordBatch::try_new(
            Arc::new(ArrowSchema::new(fields)),
            vec![
                Arc::new(Int32Array::from(ids.to_vec())),
                Arc::new(ids.iter().map(|i| Some(*i as f32 / 2.0)).collect::<Float32Array>()),
                Arc::new(ids.iter().map(|i| Some(format!("t{i}"))).collect::<StringArray>()),
            ],
        )
        .unwrap();
        std::fs::create_dir_all(self.dataset.url.to_file_path().unwrap()).unwrap();
        let table = self.dataset.table().unwrap();
        let table =
            if self.dataset.exists().await.unwrap() { self.dataset.existing().await.unwrap() } else { table };
        table
            .write(vec![batch])
            .with_partition_columns(partition.into_iter().map(str::to_owned))
            .await
            .unwrap()
    }

    fn source(&self, text: &str) -> Source {
        let path = self.folder.path().join("source.csv");
        std::fs::write(&path, text).unwrap();
        Source::file(path)
    }

    async fn add(&self, how: How, text: &str) -> Result<crate::Added, Error> {
        self.dataset.add(&self.source(text), &Change { how, ..Change::default() }).await
    }
}

#[tokio::test]
async fn a_table_of_another_writer_is_read_named_and_written_in_its_own_types() {
    let shared = Shared::new();
    shared.theirs(&[1, 2], None).await;
    let log = shared.dataset.log(None).await.unwrap();
    assert_eq!((log.len(), log[0].name.as_ref(), log[0].how.as_str()), (1, None, "WRITE"));
    let shown = shared.dataset.show(&At::Newest).await.unwrap();
    assert_eq!(shown.rows, 2);
    let added = shared.add(How::Append, "id,x,t\n3,1.5,t3\n").await.unwrap();
    assert_eq!((added.version, added.rows), (1, 3));
    // They go on with it, and so do we.
    let table = shared.theirs(&[4], None).await;
    let columns = table.snapshot().unwrap().snapshot().arrow_schema();
    assert_eq!(columns.field(0).data_type(), &DataType::Int32);
    let merged =
        shared.add(How::Merge { key: vec!["id".into()] }, "id,x,t\n4,2,four\n5,2.5,t5\n").await.unwrap();
    assert_eq!((merged.version, merged.rows, merged.replaced), (3, 5, 1));
    let other = Shared::new();
    let whole = "id,x,t\n5,2.5,t5\n4,2.0,four\n3,1.5,t3\n2,1.0,t2\n1,0.5,t1\n";
    assert_eq!(other.add(How::Append, whole).await.unwrap().name, merged.name);
    let table = shared.dataset.existing().await.unwrap();
    assert_eq!(shared.dataset.add_up(&table, crate::fingerprint::Key::default()).await.unwrap().rows, 5);
}

#[tokio::test]
async fn a_partitioned_table_is_appended_to_and_not_merged_into() {
    let shared = Shared::new();
    shared.theirs(&[1, 2], Some("t")).await;
    let added = shared.add(How::Append, "id,x,t\n3,1.5,t1\n").await.unwrap();
    assert_eq!(added.rows, 3);
    let table = shared.dataset.existing().await.unwrap();
    let all = shared.dataset.add_up(&table, crate::fingerprint::Key::default()).await.unwrap();
    assert_eq!(all.name(&added.schema), added.name);
    let said = shared.add(How::Merge { key: vec!["id".into()] }, "id,x,t\n3,1.5,t1\n").await.unwrap_err();
    assert!(said.to_string().contains("partitioned"), "{said}");
}

#[tokio::test]
async fn a_version_is_found_by_its_name_without_reading_what_is_older() {
    let shared = Shared::new();
    let mut names = Vec::new();
    for k in 0..12 {
        names.push(shared.add(How::Append, &format!("k\n{k}\n")).await.unwrap().name);
    }
    let table = shared.dataset.existing().await.unwrap();
    let log = shared.dataset.url.to_file_path().unwrap().join("_delta_log");
    let file = |version: u64| log.join(format!("{version:020}.json"));
    std::fs::remove_file(file(0)).unwrap();
    std::os::unix::fs::symlink(file(0), file(0)).unwrap();
    let named = async |name: &crate::Name| {
        shared.dataset.named(&table, &[name.as_str().to_owned()]).await.map(|found| found[0])
    };
    assert_eq!(named(&names[11]).await.unwrap(), Some(11));
    assert_eq!(named(&names[10]).await.unwrap(), Some(10));
    assert!(named(&names[0]).await.is_err(), "that entry cannot be read");
}

#[tokio::test]
async fn a_version_is_found_by_its_time_without_reading_the_whole_log() {
    let shared = Shared::new();
    for k in 0..16 {
        shared.add(How::Append, &format!("k\n{k}\n")).await.unwrap();
        shared.clock.advance(std::time::Duration::from_millis(10));
    }
    let table = shared.dataset.existing().await.unwrap();
    let log = shared.dataset.url.to_file_path().unwrap().join("_delta_log");
    // Of sixteen five are looked at.
    for version in (0..16).filter(|version| ![8, 12, 14, 13].contains(version)) {
        std::fs::write(log.join(format!("{version:020}.json")), "{}").unwrap();
    }
    let found = shared.dataset.at_time(&table, UnixMillis(1 + 135)).await.unwrap();
    assert_eq!(found, Ok(13));
}

#[tokio::test]
async fn a_name_is_of_the_newest_version_that_has_those_rows() {
    let shared = Shared::new();
    let mut names = Vec::new();
    for text in ["k\n1\n", "k\n2\n", "k\n1\n", "k\n3\n"] {
        names.push(shared.add(How::Overwrite, text).await.unwrap().name);
    }
    let log = shared.dataset.url.to_file_path().unwrap().join("_delta_log");
    let compacted = r#"{"commitInfo":{"timestamp":1,"operation":"OPTIMIZE","operationParameters":{}}}"#;
    std::fs::write(log.join(format!("{:020}.json", 4)), compacted).unwrap();
    let table = shared.dataset.existing().await.unwrap();
    let wanted: Vec<String> =
        names.iter().map(|n| n.as_str()[..12].to_owned()).chain(["0".repeat(64)]).collect();
    let found = shared.dataset.named(&table, &wanted).await.unwrap();
    assert_eq!(found, [Some(2), Some(1), Some(2), Some(4), None]);
    // As the log tells it.
    for version in shared.dataset.log(None).await.unwrap() {
        let name = version.name.unwrap().as_str().to_owned();
        let newest = shared.dataset.resolve(&At::Name(name)).await.unwrap();
        assert!(newest >= version.version);
    }
}

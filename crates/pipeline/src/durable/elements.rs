//! What a stage is run for each of: the elements of a list, or the rows of a table, one after the other, a bounded number in
//! memory; and the content of each, by which what was made of it is found again.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use contract::lineage::{Lineage, Thing};
use contract::{Code, Error, StageLog, StageName, TenantId, Value};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::content::of;
use super::kept::Kept;
use super::stage::StageWork;
use crate::live::elements;
use crate::{StageKind, Tables, task};

/// Rows read at a time.
const ROWS: usize = 256;
/// The longest row, in bytes.
const LONGEST: usize = 64 << 20;

/// The elements that are still to come.
pub(super) enum Elements {
    List(std::vec::IntoIter<Option<Value>>),
    Rows { file: Option<BufReader<File>>, read: VecDeque<Value> },
}

fn unreadable(e: impl std::fmt::Display) -> Error {
    Error::new(Code::StorageUnavailable, format!("the rows of a table cannot be read: {e}"))
}

impl Elements {
    /// Those of a value, and how many they are. Rows of a table are written into `folder` first, which is made.
    pub(super) async fn of(
        over: &Value,
        tables: Option<&Arc<dyn Tables>>,
        folder: &Path,
    ) -> Result<(Elements, usize), Error> {
        let Value::Table(name) = over else {
            let items = elements(over)?;
            let count = items.len();
            return Ok((Elements::List(items.into_iter()), count));
        };
        let Some(tables) = tables else {
            return Err(Error::new(Code::Internal, "nobody is there who could read a table"));
        };
        std::fs::create_dir_all(folder).map_err(|e| {
            Error::new(Code::StorageUnavailable, format!("the folder of the stage cannot be made: {e}"))
        })?;
        let path = tables.rows(name, folder).await?;
        let counted = task::reading("rows", move || {
            let count = BufReader::new(File::open(&path)?)
                .split(b'\n')
                .try_fold(0_usize, |n, line| line.map(|line| n + usize::from(!line.is_empty())))?;
            Ok::<_, std::io::Error>((BufReader::new(File::open(&path)?), count))
        });
        let (file, count) = counted.await.map_err(unreadable)?.map_err(unreadable)?;
        Ok((Elements::Rows { file: Some(file), read: VecDeque::new() }, count))
    }

    /// The next; `Some(None)` for one that is missing.
    pub(super) async fn next(&mut self) -> Result<Option<Option<Value>>, Error> {
        match self {
            Elements::List(items) => Ok(items.next()),
            Elements::Rows { file, read } => {
                if let Some(row) = read.pop_front() {
                    return Ok(Some(Some(row)));
                }
                let Some(reader) = file.take() else { return Ok(None) };
                let rows = task::reading("rows", move || some(reader)).await.map_err(unreadable)??;
                (*file, *read) = rows;
                Ok(read.pop_front().map(Some))
            }
        }
    }
}

/// Some rows more, and the file as long as it goes on.
fn some(mut reader: BufReader<File>) -> Result<(Option<BufReader<File>>, VecDeque<Value>), Error> {
    let (mut rows, mut line) = (VecDeque::new(), Vec::new());
    let mut bytes = 0;
    while rows.len() < ROWS && bytes < LONGEST {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok((None, rows));
        }
        bytes += line.len();
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let row: Json = serde_json::from_slice(&line).map_err(unreadable)?;
        rows.push_back(Value::Json(Arc::new(row)));
    }
    Ok((Some(reader), rows))
}

/// What is kept of an element: what it gave, and what a table says of that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Made {
    pub(super) value: Kept,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) input_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) output_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cost_nanousd: Option<i64>,
    /// What it was made of beside the element: models that answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) of: Vec<Thing>,
}

/// A log that also keeps for itself what the call for one element said that it read.
pub(super) struct Heard {
    log: Arc<dyn StageLog>,
    read: Mutex<Lineage>,
}

impl Heard {
    pub(super) fn new(log: Arc<dyn StageLog>) -> Heard {
        Heard { log, read: Mutex::default() }
    }

    pub(super) fn read(&self) -> Vec<Thing> {
        self.read.lock().inputs.clone()
    }
}

impl StageLog for Heard {
    fn line(&self, line: &str) {
        self.log.line(line);
    }

    fn progress(&self, done: u64, of: Option<u64>) {
        self.log.progress(done, of);
    }

    fn lineage(&self, lineage: Lineage) {
        self.read.lock().add(lineage.clone());
        self.log.lineage(lineage);
    }
}

/// What all elements of a stage have in common: their keys begin with it.
#[derive(Debug, Clone)]
pub(super) struct Common {
    hash: blake3::Hasher,
    /// The place counts, not the content alone.
    placed: bool,
}

fn part(hash: &mut blake3::Hasher, bytes: &[u8]) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

impl Common {
    /// Of a stage that is kept by content: its code, and what it is given besides the element.
    pub(super) fn content(
        tenant: &TenantId,
        stage: &StageName,
        work: &StageWork,
        others: &[(String, Option<Vec<u8>>)],
        placed: bool,
    ) -> Common {
        let mut hash = blake3::Hasher::new_derive_key("forebay 2026 elements of stages");
        part(&mut hash, tenant.as_str().as_bytes());
        part(&mut hash, stage.as_str().as_bytes());
        // How its outputs are put together is not what they are.
        part(&mut hash, of(&StageWork { collect: None, ..work.clone() }).as_bytes());
        for (name, value) in others {
            part(&mut hash, name.as_bytes());
            match value {
                Some(bytes) => part(&mut hash, blake3::hash(bytes).as_bytes()),
                None => part(&mut hash, b"nothing"),
            }
        }
        Common { hash, placed }
    }

    /// Of one that is made again in every run: the key of its effect in this one.
    pub(super) fn effect(effect: &str) -> Common {
        let mut hash = blake3::Hasher::new_derive_key("forebay 2026 elements of runs");
        part(&mut hash, effect.as_bytes());
        Common { hash, placed: true }
    }

    /// The key of an element.
    pub(super) fn key(
        &self,
        kind: &dyn StageKind,
        config: &Json,
        (index, element): (usize, &Value),
    ) -> Result<[u8; 32], Error> {
        let mut hash = self.hash.clone();
        if self.placed {
            part(&mut hash, &(index as u64).to_le_bytes());
        }
        let counts = match element {
            Value::Json(json) => kind.of_element(config, json),
            _ => None,
        };
        match counts {
            Some(json) => {
                part(&mut hash, b"what counts");
                part(&mut hash, json.to_string().as_bytes());
            }
            None => part(&mut hash, &Kept::bytes(element)?),
        }
        Ok(*hash.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_come_in_their_order_however_many_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let text: String = (0..1_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let mut all = Vec::new();
        let mut file = Some(BufReader::new(File::open(&path).unwrap()));
        while let Some(reader) = file.take() {
            let (rest, rows) = some(reader).unwrap();
            assert!(rows.len() <= ROWS);
            all.extend(rows);
            file = rest;
        }
        assert_eq!(all.len(), 1_000);
        assert_eq!(all[999].to_json(), serde_json::json!({"n": 999}));
    }

    struct Field;
    impl StageKind for Field {
        fn name(&self) -> &'static str {
            "field"
        }
        fn schema(&self) -> Json {
            Json::Null
        }
        fn build(
            &self,
            _: &Json,
            _: &crate::Site<'_>,
        ) -> Result<Arc<dyn contract::Stage>, Vec<crate::Problem>> {
            Err(Vec::new())
        }
        fn of_element(&self, config: &Json, element: &Json) -> Option<Json> {
            element.get(config.as_str()?).cloned()
        }
    }

    proptest! {
        #[test]
        fn keys_are_equal_exactly_where_what_counts_is(
            a in ("[ab]{0,2}", "[ab]{0,2}"), b in ("[ab]{0,2}", "[ab]{0,2}"), i in 0usize..2, j in 0usize..2, placed: bool,
        ) {
            let common = match placed {
                true => Common::effect("e"),
                false => Common { hash: blake3::Hasher::new(), placed: false },
            };
            let key = |(x, y): &(String, String), at: usize, config: &Json| {
                let row = Value::Json(Arc::new(serde_json::json!({"x": x, "y": y})));
                common.key(&Field, config, (at, &row)).unwrap()
            };
            let whole = Json::Null;
            prop_assert_eq!(key(&a, i, &whole) == key(&b, j, &whole), a == b && (!placed || i == j));
            let field = Json::from("x");
            prop_assert_eq!(key(&a, i, &field) == key(&b, j, &field), a.0 == b.0 && (!placed || i == j));
        }
    }
}

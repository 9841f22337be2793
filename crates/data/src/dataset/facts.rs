//! What Forebay writes into the information of a Delta commit, under the key `forebay`: other readers ignore it.
//!
//! A commit of another writer has no facts. If it changed no data (a compaction, a vacuum), the facts before it still hold;
//! if it did, they are worked out from its rows when somebody needs them.

use deltalake::DeltaTable;
use deltalake::logstore::LogStore;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dataset::{Dataset, number};
use crate::fingerprint::{Adder, Fingerprint, Key, Name, Sum, schema_hash};
use crate::source::Origin;
use crate::{Error, Schema, store};

/// The key in the commit's information.
pub(super) const KEY: &str = "forebay";

/// Everything that a commit says about its version.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The canonical encoding that `name` and `sum` are of.
    pub(super) encoding: u32,
    /// The version's content name.
    pub(super) name: String,
    /// The sum behind the name, which the next commit goes on from.
    pub(super) sum: String,
    /// Rows in the version.
    pub(super) rows: u64,
    /// The hash of its columns.
    pub(super) schema: String,
    /// What was done: append, overwrite or merge.
    pub(super) how: String,
    /// Rows that were written.
    pub(super) written: u64,
    /// When, in milliseconds since the epoch, by the writer's clock.
    pub(super) at: i64,
    /// Where the rows came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    /// Where they were fetched from, in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) origin: Option<Origin>,
    /// Who did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) who: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// The attempt at a gate that let it through, as the quarantine names it; in a quarantine the one that brought the entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checked: Option<String>,
    /// In a quarantine: the name of what the entries say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) held: Option<String>,
    /// The key of the effect that it is, for what must not be made twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) effect: Option<String>,
    /// What it was made of, as [`contract::lineage::Lineage`] is written; whatever cannot be read is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lineage: Option<Value>,
    /// Tells this attempt from any other: a commit whose answer was lost is found again by it.
    pub(super) attempt: String,
}

/// The encoding written now.
const ENCODING: u32 = 1;

impl Facts {
    pub(super) fn new(fingerprint: &Fingerprint, schema: &Schema, how: &str, written: u64, at: i64) -> Facts {
        Facts {
            encoding: ENCODING,
            name: fingerprint.name(schema).as_str().to_owned(),
            sum: fingerprint.sum.to_hex(),
            rows: fingerprint.rows,
            schema: schema_hash(schema),
            how: how.to_owned(),
            written,
            at,
            source: None,
            origin: None,
            who: None,
            message: None,
            checked: None,
            held: None,
            effect: None,
            lineage: None,
            attempt: uuid::Uuid::now_v7().to_string(),
        }
    }

    pub(super) fn name(&self) -> Option<Name> {
        Name::parse(&self.name)
    }

    pub(super) fn fingerprint(&self) -> Option<Fingerprint> {
        Some(Fingerprint { sum: Sum::from_hex(&self.sum)?, rows: self.rows })
    }
}

/// One entry of the log.
#[derive(Debug, Clone, Default)]
pub(super) struct Entry {
    pub(super) facts: Option<Facts>,
    pub(super) operation: Option<String>,
    /// When, by the writer's clock, in milliseconds.
    pub(super) at: Option<i64>,
    /// Whether rows or columns changed.
    pub(super) changes: bool,
}

/// Reads an entry of the log; `None` when it is not kept any more.
pub(super) async fn entry(log: &dyn LogStore, dataset: &str, version: u64) -> Result<Option<Entry>, Error> {
    let bytes =
        log.read_commit_entry(version).await.map_err(|e| store::table("read the log of", dataset, &e))?;
    Ok(bytes.map(|bytes| parse(&bytes)))
}

fn parse(bytes: &[u8]) -> Entry {
    let mut entry = Entry::default();
    for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let Ok(Value::Object(action)) = serde_json::from_slice::<Value>(line) else { continue };
        for (kind, value) in action {
            match kind.as_str() {
                "commitInfo" => {
                    let said = |key: &str| value.get(key).cloned();
                    entry.facts = said(KEY).and_then(|facts| serde_json::from_value(facts).ok());
                    entry.operation = said("operation").and_then(|o| o.as_str().map(str::to_owned));
                    let at = entry.facts.as_ref().map(|facts| facts.at);
                    entry.at = at.or_else(|| said("timestamp").and_then(|t| t.as_i64()));
                }
                "metaData" => entry.changes = true,
                "add" | "remove" => {
                    entry.changes |= value.get("dataChange").and_then(Value::as_bool).unwrap_or(true);
                }
                _ => {}
            }
        }
    }
    entry
}

impl Dataset {
    /// The facts of a version as they were written; `None` when another writer made it.
    pub(super) async fn facts(&self, log: &dyn LogStore, version: u64) -> Result<Option<Facts>, Error> {
        let mut version = version;
        loop {
            let Some(entry) = entry(log, &self.name, version).await? else { return Ok(None) };
            let known = entry.facts.filter(|facts| facts.encoding == ENCODING);
            if known.is_some() || entry.changes || version == 0 {
                return Ok(known);
            }
            version -= 1;
        }
    }

    /// The content name of a version, as far as the log tells it.
    pub(crate) async fn name_of(&self, version: u64) -> Result<Option<Name>, Error> {
        let log = self.table()?.log_store();
        Ok(self.facts(&*log, version).await?.as_ref().and_then(Facts::name))
    }

    /// The fingerprint of a version: from its facts, or from its rows.
    pub(super) async fn fingerprint(&self, table: &DeltaTable) -> Result<Fingerprint, Error> {
        let facts = self.facts(&*table.log_store(), number(table)).await?;
        match facts.as_ref().and_then(Facts::fingerprint) {
            Some(fingerprint) => Ok(fingerprint),
            None => self.add_up(table, Key::default()).await,
        }
    }

    /// Adds up all rows of a version.
    pub(super) async fn add_up(&self, table: &DeltaTable, key: Key) -> Result<Fingerprint, Error> {
        let mut rows = self.scan(table, &super::Select::default()).await?;
        let mut adder = Adder::new(key);
        while let Some(batch) = rows.next_arrow().await? {
            adder.add(&batch);
        }
        Ok(adder.total())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_log_entry_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
            parse(&bytes);
            parse(text.as_bytes());
        }
    }

    #[test]
    fn an_entry_that_only_compacts_changes_nothing() {
        let compaction = br#"{"add":{"path":"x","dataChange":false}}
{"commitInfo":{"timestamp":5,"operation":"OPTIMIZE"}}"#;
        let entry = parse(compaction);
        assert!(!entry.changes && entry.facts.is_none());
        assert_eq!((entry.at, entry.operation.as_deref()), (Some(5), Some("OPTIMIZE")));
        assert!(parse(br#"{"remove":{"path":"x","dataChange":true}}"#).changes);
    }
}

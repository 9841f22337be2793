//! Making staged files a version: one entry of the log, written if and only if nobody else wrote it first.

use std::collections::HashMap;

use deltalake::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference, TransactionError};
use deltalake::kernel::{Action, MetadataExt, Protocol, StructType};
use deltalake::operations::create::CreateBuilder;
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableError};
use futures_util::TryStreamExt;
use serde_json::Value;

use crate::dataset::effect::transactions;
use crate::dataset::facts::{Facts, KEY, entry};
use crate::dataset::stage::Staged;
use crate::dataset::{Dataset, number};
use crate::{ColumnType, Error, Schema, store};

/// What becomes of the files there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    /// They stay.
    Nothing,
    /// They leave the newest version; older ones keep them.
    Everything,
}

/// A commit that did not happen.
#[derive(Debug)]
pub(super) enum Refused {
    /// Somebody else wrote the version first.
    Taken,
    /// Anything else; no version was made.
    Failed(Error),
}

impl Dataset {
    /// Commits to an existing table against the version that `base` is at, or refuses.
    pub(super) async fn commit(
        &self,
        base: &DeltaTable,
        staged: &Staged,
        replace: Replace,
        schema: &Schema,
        facts: &Facts,
    ) -> Result<u64, Refused> {
        let failed = |e: DeltaTableError| Refused::Failed(store::table("commit to", &self.name, &e));
        let log = base.log_store();
        // Versions never get older, also when a clock goes back: that is how one is found by its time.
        let before = entry(&*log, &self.name, number(base)).await.map_err(Refused::Failed)?;
        let at = before.and_then(|before| before.at).map_or(facts.at, |before| before.max(facts.at));
        let facts = &Facts { at, ..facts.clone() };
        let state = base.snapshot().map_err(failed)?;
        let mut actions: Vec<Action> = Vec::with_capacity(staged.files.len() + 1);
        if replace == Replace::Everything {
            let files = state.snapshot().file_views(&*log, None);
            let removed: Vec<Action> = files
                .map_ok(|file| Action::Remove(file.remove_action(true)))
                .try_collect()
                .await
                .map_err(failed)?;
            actions.extend(removed);
            if self.schema_of(base).map_err(Refused::Failed)? != *schema {
                let columns = struct_type(schema, &self.name).map_err(Refused::Failed)?;
                let metadata = MetadataExt::with_schema(state.metadata().clone(), &columns)
                    .map_err(|e| failed(e.into()))?;
                actions.push(Action::Metadata(metadata));
                if let Some(protocol) =
                    with_wall_clock_times(state.protocol(), schema, &self.name).map_err(Refused::Failed)?
                {
                    actions.push(Action::Protocol(protocol));
                }
            }
        }
        actions.extend(staged.files.iter().cloned().map(Action::Add));
        let mode = if replace == Replace::Everything { SaveMode::Overwrite } else { SaveMode::Append };
        let operation = DeltaOperation::Write { mode, partition_by: None, predicate: None };
        let done = CommitBuilder::from(properties(facts, number(base) + 1).map_err(Refused::Failed)?)
            .with_actions(actions)
            .build(Some(state as &dyn TableReference), log.clone(), operation)
            .await;
        match done {
            Ok(commit) => Ok(commit.version()),
            Err(error) => self.after(base, number(base) + 1, facts, &error).await,
        }
    }

    /// Makes the table with its first version, or refuses.
    pub(super) async fn create(
        &self,
        empty: &DeltaTable,
        staged: &Staged,
        schema: &Schema,
        facts: &Facts,
    ) -> Result<u64, Refused> {
        let columns = struct_type(schema, &self.name).map_err(Refused::Failed)?;
        let done = CreateBuilder::new()
            .with_log_store(empty.log_store())
            .with_table_name(&*self.name)
            .with_columns(columns.fields().cloned())
            .with_save_mode(SaveMode::ErrorIfExists)
            // Versions are kept until gc: the log must not forget them before.
            .with_configuration_property(
                deltalake::TableProperty::LogRetentionDuration,
                Some("interval 36500 days"),
            )
            .with_actions(staged.files.iter().cloned().map(Action::Add))
            .with_commit_properties(properties(facts, 0).map_err(Refused::Failed)?)
            .await;
        match done {
            Ok(table) => Ok(number(&table)),
            Err(error) => self.after(empty, 0, facts, &error).await,
        }
    }

    /// What a failed commit really was. An error may come after the version was written (its checkpoint failed, an answer
    /// was lost), so the log decides and not the error.
    async fn after(
        &self,
        table: &DeltaTable,
        wanted: u64,
        facts: &Facts,
        error: &DeltaTableError,
    ) -> Result<u64, Refused> {
        match entry(&*table.log_store(), &self.name, wanted).await {
            Ok(Some(there)) if there.facts.as_ref().is_some_and(|f| f.attempt == facts.attempt) => {
                tracing::warn!(dataset = %self.name, %error, "the version is committed, what follows a commit failed");
                Ok(wanted)
            }
            Ok(Some(_)) => Err(Refused::Taken),
            _ if is_taken(error) => Err(Refused::Taken),
            _ => Err(Refused::Failed(store::table("commit to", &self.name, error))),
        }
    }
}

fn is_taken(error: &DeltaTableError) -> bool {
    matches!(
        error,
        DeltaTableError::VersionAlreadyExists(_)
            | DeltaTableError::Transaction {
                source: TransactionError::MaxCommitAttempts(_)
                    | TransactionError::CommitConflict(_)
                    | TransactionError::VersionAlreadyExists(_)
            }
    )
}

/// No retries below: a commit that comes late has another base, and so another sum and another name.
fn properties(facts: &Facts, version: u64) -> Result<CommitProperties, Error> {
    let once = transactions(facts, version);
    let facts = serde_json::to_value(facts).map_err(|e| Error::Table {
        doing: "describe a commit to",
        dataset: String::new(),
        why: e.to_string(),
    })?;
    let metadata: HashMap<_, _> = HashMap::from([(KEY.to_owned(), facts)]);
    let properties = CommitProperties::default().with_metadata(metadata).with_max_retries(0);
    Ok(properties.with_application_transactions(once))
}

/// The protocol with the feature that a `datetime` column needs, `None` when it is not needed or already there. A table takes
/// it only when it has such a column: older readers open all others.
fn with_wall_clock_times(
    protocol: &Protocol,
    schema: &Schema,
    dataset: &str,
) -> Result<Option<Protocol>, Error> {
    const FEATURE: &str = "timestampNtz";
    if !schema.columns.iter().any(|column| has_datetime(&column.ty)) {
        return Ok(None);
    }
    let failed = |e: serde_json::Error| Error::Table {
        doing: "raise the protocol of",
        dataset: dataset.to_owned(),
        why: e.to_string(),
    };
    let mut said = serde_json::to_value(protocol).map_err(failed)?;
    let version = |key: &str| said.get(key).and_then(Value::as_i64).unwrap_or(1);
    let features = |key: &str| -> Option<Vec<String>> { serde_json::from_value(said.get(key)?.clone()).ok() };
    let (reader, writer) = (version("minReaderVersion"), version("minWriterVersion"));
    // What the numbered protocols implied has to be said where features are listed.
    let implied = |at: i64, of: &[(i64, &str)]| -> Vec<String> {
        of.iter().filter(|(since, _)| at >= *since).map(|(_, feature)| (*feature).to_owned()).collect()
    };
    let mut readers = features("readerFeatures").unwrap_or_else(|| implied(reader, &[(2, "columnMapping")]));
    let mut writers = features("writerFeatures").unwrap_or_else(|| implied(writer, &NUMBERED));
    if readers.iter().any(|f| f == FEATURE) && writers.iter().any(|f| f == FEATURE) {
        return Ok(None);
    }
    readers.push(FEATURE.to_owned());
    writers.push(FEATURE.to_owned());
    if let Value::Object(said) = &mut said {
        said.insert("minReaderVersion".into(), 3.into());
        said.insert("minWriterVersion".into(), 7.into());
        said.insert("readerFeatures".into(), readers.into());
        said.insert("writerFeatures".into(), writers.into());
    }
    serde_json::from_value(said).map(Some).map_err(failed)
}

/// What each version of the writer's protocol implied, before features were listed.
const NUMBERED: [(i64, &str); 7] = [
    (2, "appendOnly"),
    (2, "invariants"),
    (3, "checkConstraints"),
    (4, "changeDataFeed"),
    (4, "generatedColumns"),
    (5, "columnMapping"),
    (6, "identityColumns"),
];

fn has_datetime(ty: &ColumnType) -> bool {
    match ty {
        ColumnType::DateTime => true,
        ColumnType::List(of) => has_datetime(of),
        ColumnType::Struct(columns) => columns.iter().any(|column| has_datetime(&column.ty)),
        _ => false,
    }
}

pub(super) fn struct_type(schema: &Schema, dataset: &str) -> Result<StructType, Error> {
    let arrow = schema.to_arrow();
    (&*arrow).try_into_kernel().map_err(|e: arrow::error::ArrowError| Error::Table {
        doing: "declare the columns of",
        dataset: dataset.to_owned(),
        why: e.to_string(),
    })
}

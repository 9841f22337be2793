//! Merge by key: a row takes the place of the one with its key.

use arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::prelude::{DataFrame, Expr, JoinType, SessionContext, cast, ident, lit};
use deltalake::DeltaTable;

use crate::dataset::add::{Added, Pending};
use crate::dataset::commit::{Refused, Replace};
use crate::dataset::stage::{Staged, remove};
use crate::dataset::{Dataset, Rows, number};
use crate::{ColumnType, Error, Schema, store};

/// How the key's columns of the new rows are called in a join.
fn theirs(column: &str) -> String {
    format!("__forebay_new_{column}")
}

/// The columns of a key, which have to be there.
pub(super) fn known(key: &[String], schema: &Schema) -> Result<(), Error> {
    if let Some(unknown) = key.iter().find(|k| schema.column(k).is_none()) {
        let names: Vec<_> = schema.names().collect();
        let why = format!("the columns are {}", names.join(", "));
        return Err(Error::invalid(format!("the key `{unknown}`"), why));
    }
    if key.is_empty() {
        return Err(Error::invalid("the key", "a merge needs the columns that tell rows apart"));
    }
    Ok(())
}

/// The held rows whose key no new row has.
pub(super) fn without(
    held: DataFrame,
    new: DataFrame,
    schema: &Schema,
    key: &[String],
) -> Result<DataFrame, DataFusionError> {
    let names: Vec<String> = key.iter().map(|k| theirs(k)).collect();
    // The engine's merge join compares no instants: their microseconds do.
    let comparable = |k: &String| match schema.column(k).map(|c| &c.ty) {
        Some(ColumnType::Timestamp) => cast(ident(k), DataType::Int64),
        _ => ident(k),
    };
    let new = new.select(key.iter().zip(&names).map(|(k, n)| comparable(k).alias(n)).collect::<Vec<_>>())?;
    let on: Vec<Expr> = key.iter().zip(&names).map(|(k, n)| comparable(k).eq(ident(n))).collect();
    held.join_on(new, JoinType::LeftAnti, on)
}

impl Dataset {
    /// Writes the rows that stay next to the staged ones, and commits both in the place of everything.
    pub(super) async fn merge(
        &self,
        base: DeltaTable,
        staged: Staged,
        pending: &Pending<'_>,
        key: &[String],
    ) -> Result<Added, Error> {
        let state = base.snapshot().map_err(|e| store::table("open", &self.name, &e))?;
        if let Some(column) = state.metadata().partition_columns().first() {
            let why = format!("it is partitioned by `{column}`; append to it, or overwrite it");
            return Err(self.defect("merge into", &why));
        }
        if let Some(done) = self.made(&base, pending.change.effect.as_ref()).await? {
            return Ok(done);
        }
        let session = self.warehouse.session();
        self.check_key(&staged, pending, key).await?;
        let held = self.fingerprint(&base).await?;
        let staying = self.staying(&session, &base, &staged, pending, key).await?;
        let replaced = held.rows.saturating_sub(staying.fingerprint.rows);
        let after = staying.fingerprint.plus(staged.fingerprint);
        let mut files = staying.files.clone();
        files.extend(staged.files);
        if after == held && self.same_rows(&base, &files, &pending.schema).await? {
            remove(&*self.store(), &staying.files).await;
            return Ok(pending.added(number(&base), &after, 0, false));
        }
        let facts = self.facts_of(&after, pending);
        let all = Staged { files, fingerprint: after };
        match self.commit(&base, &all, Replace::Everything, &pending.schema, &facts).await {
            Ok(version) => Ok(pending.added(version, &after, replaced, true)),
            Err(refused) => {
                remove(&*self.store(), &staying.files).await;
                Err(match refused {
                    Refused::Failed(error) => error,
                    Refused::Taken => Error::Conflict {
                        dataset: self.name.to_string(),
                        base: number(&base),
                        theirs: number(&self.existing().await?),
                    },
                })
            }
        }
    }

    /// The key has to be columns of the dataset, and in the new rows unique and never null.
    pub(super) async fn check_key(
        &self,
        staged: &Staged,
        pending: &Pending<'_>,
        key: &[String],
    ) -> Result<(), Error> {
        let failed = |e| store::query("check the key", &e);
        known(key, &pending.schema)?;
        let session = self.warehouse.session();
        let rows = self.staged_frame(&session, &staged.files, &pending.schema).await?;
        let named =
            || format!("the key {}", key.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", "));
        let null = key.iter().map(|k| ident(k).is_null()).reduce(Expr::or).unwrap_or_else(|| lit(false));
        let without = rows.clone().filter(null).map_err(failed)?.count().await.map_err(failed)?;
        if without > 0 {
            let why = format!("{without} of the new rows lack it; remove them, or merge by other columns");
            return Err(Error::invalid(named(), why));
        }
        let doubled = rows
            .aggregate(key.iter().map(ident).collect(), vec![count(lit(1)).alias("__forebay_count")])
            .and_then(|frame| frame.filter(ident("__forebay_count").gt(lit(1))))
            .and_then(|frame| frame.limit(0, Some(1)))
            .map_err(failed)?;
        let columns = key.iter().filter_map(|k| pending.schema.column(k).cloned()).collect();
        let doubled = Rows::run(doubled, crate::Schema { columns }).await?.all().await?;
        if let Some(row) = doubled.first() {
            let value = serde_json::Value::Object(row.clone());
            let why = format!("it is not unique in the new rows: {value} comes more than once");
            return Err(Error::invalid(named(), why));
        }
        Ok(())
    }

    /// Writes the rows of `base` whose key no new row has.
    async fn staying(
        &self,
        session: &SessionContext,
        base: &DeltaTable,
        staged: &Staged,
        pending: &Pending<'_>,
        key: &[String],
    ) -> Result<Staged, Error> {
        let failed = |e| store::query("merge", &e);
        let held = self.frame(session, base).await?;
        let new = self.staged_frame(session, &staged.files, &pending.schema).await?;
        let joined = without(held, new, &pending.schema, key).map_err(failed)?;
        self.stage_rows(base, Rows::run(joined, pending.schema.clone()).await?).await
    }
}

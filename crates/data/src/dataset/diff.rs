//! What differs between two versions.

use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::prelude::{DataFrame, Expr, JoinType, SessionContext, ident, lit, when};
use deltalake::DeltaTable;
use serde_json::{Map, Value};

use crate::dataset::{At, Dataset, Rows, explained};
use crate::{Column, ColumnType, Error, Schema, store};

/// The differences of a version from another.
#[derive(Debug, Clone, Default)]
pub struct Diff {
    /// The version that is compared with, by number.
    pub from: u64,
    /// The version that is compared, by number.
    pub to: u64,
    /// Columns that only `to` has.
    pub columns_added: Vec<Column>,
    /// Columns that only `from` has.
    pub columns_removed: Vec<Column>,
    /// Columns with another type: the name, the type before, the type after.
    pub columns_changed: Vec<(String, ColumnType, ColumnType)>,
    /// Rows before and after.
    pub rows: (u64, u64),
    /// Rows that only `to` has; with a key: keys that only `to` has.
    pub added: u64,
    /// Rows that only `from` has; with a key: keys that only `from` has.
    pub removed: u64,
    /// With a key: rows that have another value in some column that both versions have. Without one: 0, a row that changed
    /// is one that was removed and one that was added.
    pub changed: u64,
    /// With a key: some of the keys that were added, removed or changed, with a member `__change` that says which.
    pub examples: Vec<Map<String, Value>>,
}

/// How many examples a diff holds.
const EXAMPLES: usize = 20;

const COUNT: &str = "__forebay_count";
const CHANGE: &str = "__change";

fn old(column: &str) -> String {
    format!("__forebay_old_{column}")
}

impl Dataset {
    /// Compares two versions: by key when one is given, and else row by row, where a row that comes more often counts as
    /// often. Only the columns that both have are compared. Sorting and grouping go through files when memory does not
    /// suffice.
    ///
    /// # Errors
    /// [`Error::NoDataset`], [`Error::NoVersion`], [`Error::Invalid`] for a key that is not in both or not unique,
    /// [`Error::Memory`].
    pub async fn diff(&self, from: &At, to: &At, key: &[String]) -> Result<Diff, Error> {
        let (from, to) = (self.resolve(from).await?, self.resolve(to).await?);
        let (before, after) = (self.at_version(from).await?, self.at_version(to).await?);
        let (was, is) = (self.schema_of(&before)?, self.schema_of(&after)?);
        let rows = (self.fingerprint(&before).await?, self.fingerprint(&after).await?);
        let mut diff = Diff { from, to, rows: (rows.0.rows, rows.1.rows), ..Diff::default() };
        diff.columns(&was, &is);
        if rows.0 == rows.1 && was == is {
            return Ok(diff);
        }
        let both: Vec<Column> = is.columns.iter().filter(|c| was.columns.contains(c)).cloned().collect();
        if let Some(unknown) = key.iter().find(|k| !both.iter().any(|c| c.name == **k)) {
            let why = "both versions must have it, with one type";
            return Err(Error::invalid(format!("the key `{unknown}`"), why));
        }
        let compared = Box::pin(diff.compare(self, (&before, &after), &both, key)).await;
        match compared {
            Ok(()) => Ok(diff),
            Err(error) => Err(explained(&[(self.clone(), from), (self.clone(), to)], error).await),
        }
    }
}

fn failed(e: datafusion::error::DataFusionError) -> Error {
    store::query("compare the versions", &e)
}

impl Diff {
    /// Counts what differs in the columns that both have.
    async fn compare(
        &mut self,
        dataset: &Dataset,
        (before, after): (&DeltaTable, &DeltaTable),
        both: &[Column],
        key: &[String],
    ) -> Result<(), Error> {
        let session = dataset.warehouse.session();
        let names: Vec<Expr> = both.iter().map(|c| ident(&c.name)).collect();
        let select = |frame: DataFrame| frame.select(names.clone()).map_err(failed);
        let before = select(dataset.frame(&session, before).await?)?;
        let after = select(dataset.frame(&session, after).await?)?;
        match key {
            [] => self.by_row(before, after, names).await,
            key => self.by_key(&session, before, after, both, key).await,
        }
    }

    fn columns(&mut self, was: &Schema, is: &Schema) {
        for column in &is.columns {
            match was.column(&column.name) {
                None => self.columns_added.push(column.clone()),
                Some(before) if before.ty != column.ty => {
                    self.columns_changed.push((column.name.clone(), before.ty.clone(), column.ty.clone()));
                }
                Some(_) => {}
            }
        }
        self.columns_removed = was.columns.iter().filter(|c| is.column(&c.name).is_none()).cloned().collect();
    }

    /// Counts how much more often each row is in one than in the other.
    async fn by_row(&mut self, before: DataFrame, after: DataFrame, names: Vec<Expr>) -> Result<(), Error> {
        if names.is_empty() {
            (self.removed, self.added) = self.rows;
            return Ok(());
        }
        let before = before.with_column(COUNT, lit(-1i64)).map_err(failed)?;
        let after = after.with_column(COUNT, lit(1i64)).map_err(failed)?;
        let more = |positive: bool| {
            let n = ident("__forebay_net");
            let (test, value) =
                if positive { (n.clone().gt(lit(0i64)), n) } else { (n.clone().lt(lit(0i64)), -n) };
            when(test, value).otherwise(lit(0i64)).map(sum)
        };
        let frame = before
            .union(after)
            .and_then(|frame| frame.aggregate(names, vec![sum(ident(COUNT)).alias("__forebay_net")]))
            .and_then(|frame| {
                frame.aggregate(Vec::new(), vec![more(true)?.alias("added"), more(false)?.alias("removed")])
            })
            .map_err(failed)?;
        let counts = counts(frame, &["added", "removed"]).await?;
        self.added = counts.first().copied().unwrap_or_default();
        self.removed = counts.get(1).copied().unwrap_or_default();
        Ok(())
    }

    async fn by_key(
        &mut self,
        session: &SessionContext,
        before: DataFrame,
        after: DataFrame,
        both: &[Column],
        key: &[String],
    ) -> Result<(), Error> {
        let _ = session;
        for frame in [&before, &after] {
            unique(frame, key).await?;
        }
        let before = before
            .select(both.iter().map(|c| ident(&c.name).alias(old(&c.name))).collect::<Vec<_>>())
            .and_then(|frame| frame.with_column(&old(COUNT), lit(1i64)))
            .map_err(failed)?;
        let after = after.with_column(COUNT, lit(1i64)).map_err(failed)?;
        let on: Vec<Expr> = key.iter().map(|k| ident(k).eq(ident(old(k)))).collect();
        let same = both.iter().filter(|c| !key.contains(&c.name)).map(|c| {
            let (new, old) = (ident(&c.name), ident(old(&c.name)));
            Expr::BinaryExpr(datafusion::logical_expr::BinaryExpr::new(
                Box::new(new),
                datafusion::logical_expr::Operator::IsDistinctFrom,
                Box::new(old),
            ))
        });
        let differs = same.reduce(Expr::or).unwrap_or_else(|| lit(false));
        let change = when(ident(old(COUNT)).is_null(), lit("added"))
            .when(ident(COUNT).is_null(), lit("removed"))
            .when(differs, lit("changed"))
            .otherwise(lit("same"))
            .map_err(failed)?;
        let keys: Vec<Expr> = key
            .iter()
            .map(|k| datafusion::functions::expr_fn::coalesce(vec![ident(k), ident(old(k))]).alias(k))
            .chain([change.alias(CHANGE)])
            .collect();
        let frame = after
            .join_on(before, JoinType::Full, on)
            .and_then(|frame| frame.select(keys))
            .and_then(|frame| frame.filter(ident(CHANGE).not_eq(lit("same"))))
            .map_err(failed)?;
        let of = |kind: &str| {
            let is = when(ident(CHANGE).eq(lit(kind)), lit(1i64)).otherwise(lit(0i64));
            is.map(|is| sum(is).alias(kind))
        };
        let sums = vec![
            of("added").map_err(failed)?,
            of("removed").map_err(failed)?,
            of("changed").map_err(failed)?,
        ];
        let totals = frame.clone().aggregate(Vec::new(), sums).map_err(failed)?;
        let counts = counts(totals, &["added", "removed", "changed"]).await?;
        self.added = counts.first().copied().unwrap_or_default();
        self.removed = counts.get(1).copied().unwrap_or_default();
        self.changed = counts.get(2).copied().unwrap_or_default();
        let order = key.iter().map(|k| ident(k).sort(true, false)).collect();
        let some = frame.sort(order).and_then(|frame| frame.limit(0, Some(EXAMPLES))).map_err(failed)?;
        let mut columns: Vec<Column> =
            key.iter().filter_map(|k| both.iter().find(|c| c.name == *k).cloned()).collect();
        columns.push(Column { name: CHANGE.to_owned(), ty: ColumnType::Text });
        self.examples = Rows::run(some, Schema { columns }).await?.all().await?;
        Ok(())
    }
}

async fn unique(frame: &DataFrame, key: &[String]) -> Result<(), Error> {
    let doubled = frame
        .clone()
        .aggregate(key.iter().map(ident).collect(), vec![count(lit(1)).alias(COUNT)])
        .and_then(|frame| frame.filter(ident(COUNT).gt(lit(1))))
        .map_err(failed)?;
    let doubled = doubled.count().await.map_err(failed)?;
    if doubled > 0 {
        let why = format!(
            "{doubled} of its values come more than once in a version; compare by other columns, or by none"
        );
        return Err(Error::invalid(format!("the key `{}`", key.join(", ")), why));
    }
    Ok(())
}

/// One row of counts.
async fn counts(frame: DataFrame, names: &[&str]) -> Result<Vec<u64>, Error> {
    let columns = names.iter().map(|n| Column { name: (*n).to_owned(), ty: ColumnType::Int }).collect();
    let rows = Rows::run(frame, Schema { columns }).await?.all().await?;
    let row = rows.first().cloned().unwrap_or_default();
    Ok(names.iter().map(|n| row.get(*n).and_then(Value::as_u64).unwrap_or_default()).collect())
}

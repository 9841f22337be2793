//! A suite bound to columns: what is worked out per batch, and what came of it in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use datafusion::common::DFSchema;
use datafusion::functions::expr_fn::character_length;
use datafusion::logical_expr::{Operator, binary_expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{Expr, SessionContext, ident, lit};

use crate::expect::literal::literal;
use crate::expect::suite::{Check, Suite};
use crate::expect::tally::{Keys, Verdict};
use crate::expect::{Reference, Severity, sql};
use crate::{Column, ColumnType, Error, Schema};

/// What expectations need that is not in the rows, by the place of the expectation.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub(crate) references: BTreeMap<usize, Result<Arc<Reference>, String>>,
    pub(crate) keys: BTreeMap<usize, Result<Arc<Keys>, String>>,
    /// Rows of versions before, for `volume`.
    pub(crate) history: BTreeMap<usize, Vec<u64>>,
}

/// How an expectation is looked at. Numbers are places of columns in a batch.
pub(crate) enum Kind {
    /// Row by row: the expression is false where a row breaks it.
    Row(Arc<dyn PhysicalExpr>),
    /// Row by row: values are among these.
    Known(usize, Arc<Keys>),
    /// At most a share of the rows breaks it.
    Share(Arc<dyn PhysicalExpr>, f64),
    /// The newest value, not older than so many milliseconds.
    Newest(usize, i64),
    /// Counts in the bins of a reference.
    Bins(usize, Arc<Reference>),
    /// The number of rows.
    Rows,
    /// By a grouping of its own.
    Unique(Vec<String>),
    /// By the columns alone: what is wrong with them.
    Columns(Vec<String>),
    /// It cannot be looked at.
    Problem(String),
}

/// One expectation, bound.
struct Bound {
    kind: Kind,
    /// The columns an example shows.
    columns: Vec<usize>,
}

/// A suite bound to the columns of batches.
pub(crate) struct Plan {
    pub(crate) suite: Suite,
    pub(crate) given: Given,
    /// The columns that batches have to have.
    pub(crate) schema: Schema,
    bound: Vec<Bound>,
}

/// Binds to columns; errors are texts for the outcome.
struct Binder<'a> {
    session: &'a SessionContext,
    /// The columns of a batch.
    schema: &'a Schema,
    /// The columns of the rows, of which a batch may have only some.
    full: &'a Schema,
    arrow: DFSchema,
}

impl Plan {
    /// Binds a suite to rows whose columns are `full`. Batches have to have all of them, or when `project` is set only those that
    /// some expectation looks at.
    pub(crate) fn new(
        session: &SessionContext,
        suite: Suite,
        full: &Schema,
        given: Given,
        project: bool,
    ) -> Result<Plan, Error> {
        let mut schema = full.clone();
        if project {
            let binder = Binder::new(session, full, full)?;
            let mut used: Vec<usize> = suite
                .expected
                .iter()
                .enumerate()
                .filter(|(_, e)| !matches!(e.check, Check::Unique(_)))
                .flat_map(|(at, e)| binder.bind(at, &e.check, &given).columns)
                .collect();
            used.sort_unstable();
            used.dedup();
            let columns: Vec<Column> = used.iter().filter_map(|at| full.columns.get(*at).cloned()).collect();
            // A scan of no columns at all is not worth its special cases.
            schema.columns =
                if columns.is_empty() { full.columns.iter().take(1).cloned().collect() } else { columns };
        }
        let binder = Binder::new(session, &schema, full)?;
        let bind = |(at, e): (usize, &crate::expect::suite::Expected)| binder.bind(at, &e.check, &given);
        let bound = suite.expected.iter().enumerate().map(bind).collect();
        Ok(Plan { suite, given, schema, bound })
    }

    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.bound.iter().map(|b| &b.kind)
    }

    /// The columns that examples of each expectation show.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &[usize]> {
        self.bound.iter().map(|b| b.columns.as_slice())
    }

    /// Whether a row that breaks the expectation at that place is refused alone.
    pub(crate) fn refuses_rows(&self, at: usize) -> bool {
        let error = self.suite.expected.get(at).is_some_and(|e| e.severity == Severity::Error);
        error && self.bound.get(at).is_some_and(|b| matches!(b.kind, Kind::Row(_) | Kind::Known(..)))
    }

    /// What the conditions of rows say of a batch, one for each expectation.
    pub(crate) fn verdicts(&self, batch: &RecordBatch) -> Vec<Verdict> {
        let verdict = |bound: &Bound| match &bound.kind {
            Kind::Row(holds) => match self.failing(holds, batch) {
                Ok(rows) => Verdict::Fails(rows),
                Err(why) => Verdict::Broken(why),
            },
            Kind::Known(column, keys) => Verdict::Fails(falses(&keys.known(batch.column(*column)))),
            _ => Verdict::NotOfRows,
        };
        self.bound.iter().map(verdict).collect()
    }

    /// The rows where a condition is false.
    pub(crate) fn failing(
        &self,
        holds: &Arc<dyn PhysicalExpr>,
        batch: &RecordBatch,
    ) -> Result<BooleanBuffer, String> {
        let value = holds.evaluate(batch).map_err(|e| e.to_string())?;
        let array = value.into_array(batch.num_rows()).map_err(|e| e.to_string())?;
        array.as_boolean_opt().map(falses).ok_or_else(|| "the condition is not true or false".to_owned())
    }
}

fn falses(values: &BooleanArray) -> BooleanBuffer {
    let no = !values.values();
    match values.nulls() {
        Some(nulls) => &no & nulls.inner(),
        None => no,
    }
}

impl<'a> Binder<'a> {
    fn new(session: &'a SessionContext, schema: &'a Schema, full: &'a Schema) -> Result<Binder<'a>, Error> {
        let arrow = DFSchema::try_from(schema.to_arrow());
        let arrow = arrow.map_err(|e| crate::store::query("understand the expectations", &e))?;
        Ok(Binder { session, schema, full, arrow })
    }

    fn bind(&self, at: usize, check: &Check, given: &Given) -> Bound {
        let mut columns = Vec::new();
        let kind = self.kind(at, check, given, &mut columns);
        Bound { kind: kind.unwrap_or_else(Kind::Problem), columns }
    }

    fn kind(&self, at: usize, check: &Check, given: &Given, used: &mut Vec<usize>) -> Result<Kind, String> {
        Ok(match check {
            Check::Schema { columns, closed } => Kind::Columns(differences(self.full, columns, *closed)),
            Check::Volume(_) => Kind::Rows,
            Check::Unique(c) => {
                // Looked at by a query of its own, over all columns.
                for name in &c.columns {
                    known(self.full, name)?;
                }
                Kind::Unique(c.columns.clone())
            }
            Check::NotNull(c) => {
                let holds = present(self.column(&c.column, used)?);
                let holds = self.physical(holds)?;
                if c.max_share > 0.0 { Kind::Share(holds, c.max_share) } else { Kind::Row(holds) }
            }
            Check::Range(c) => {
                let column = self.column(&c.column, used)?;
                if matches!(
                    column.ty,
                    ColumnType::Bool | ColumnType::Binary | ColumnType::List(_) | ColumnType::Struct(_)
                ) {
                    return Err(format!("`{}` is of type {}, which has no order", column.name, column.ty));
                }
                let bound = |value: &Option<serde_json::Value>, or: f64| -> Result<Option<Expr>, String> {
                    match value {
                        Some(value) => Ok(Some(lit(literal(value, &column.ty)?))),
                        // A NaN is beyond every number, in one direction or the other.
                        None => Ok((column.ty == ColumnType::Float).then(|| lit(or))),
                    }
                };
                let min = bound(&c.min, f64::NEG_INFINITY)?.map(|min| plain(column).gt_eq(min));
                let max = bound(&c.max, f64::INFINITY)?.map(|max| plain(column).lt_eq(max));
                let holds = min.into_iter().chain(max).reduce(Expr::and).unwrap_or_else(|| lit(true));
                Kind::Row(self.physical(holds)?)
            }
            Check::Set(c) => {
                let column = self.column(&c.column, used)?;
                let values = c.values.iter().map(|v| literal(v, &column.ty).map(lit));
                let values: Vec<Expr> = values.collect::<Result<_, _>>()?;
                Kind::Row(self.physical(plain(column).in_list(values, false))?)
            }
            Check::Pattern(c) => {
                let column = text(self.column(&c.column, used)?)?;
                Kind::Row(self.physical(binary_expr(column, Operator::RegexMatch, lit(c.regex.as_str())))?)
            }
            Check::Length(c) => {
                let length = character_length(text(self.column(&c.column, used)?)?);
                let min = c.min.map(|min| length.clone().gt_eq(lit(i64::from(min))));
                let max = c.max.map(|max| length.clone().lt_eq(lit(i64::from(max))));
                let holds = min.into_iter().chain(max).reduce(Expr::and).unwrap_or_else(|| lit(true));
                Kind::Row(self.physical(holds)?)
            }
            Check::Sql(condition) => {
                let holds = sql::condition(self.session, &self.arrow, condition)?;
                let mut names: Vec<&str> = holds.column_refs().iter().map(|c| c.name.as_str()).collect();
                names.sort_unstable();
                for name in names {
                    self.column(name, used)?;
                }
                Kind::Row(self.physical(holds)?)
            }
            Check::Freshness { column, max_age_ms, .. } => {
                let column = self.column(column, used)?;
                if !matches!(column.ty, ColumnType::Timestamp | ColumnType::DateTime | ColumnType::Date) {
                    return Err(format!("`{}` is of type {}, which is no time", column.name, column.ty));
                }
                Kind::Newest(place(used), *max_age_ms)
            }
            Check::Distribution { column, .. } => {
                self.column(column, used)?;
                match given.references.get(&at) {
                    Some(reference) => Kind::Bins(place(used), reference.clone()?),
                    None => Kind::Problem("the reference was not read".to_owned()),
                }
            }
            Check::References { column, .. } => {
                self.column(column, used)?;
                match given.keys.get(&at) {
                    Some(keys) => Kind::Known(place(used), keys.clone()?),
                    None => Kind::Problem("the other dataset was not read".to_owned()),
                }
            }
        })
    }

    /// The column, its place noted.
    fn column(&self, name: &str, used: &mut Vec<usize>) -> Result<&Column, String> {
        known(self.full, name)?;
        let at = known(self.schema, name)?;
        used.push(at);
        self.schema.columns.get(at).ok_or_else(|| format!("there is no column `{name}`"))
    }

    fn physical(&self, expr: Expr) -> Result<Arc<dyn PhysicalExpr>, String> {
        self.session.create_physical_expr(expr, &self.arrow).map_err(|e| e.to_string())
    }
}

/// The place that was noted last.
fn place(used: &[usize]) -> usize {
    used.last().copied().unwrap_or_default()
}

fn known(schema: &Schema, name: &str) -> Result<usize, String> {
    schema.columns.iter().position(|c| c.name == name).ok_or_else(|| {
        let names: Vec<&str> = schema.names().collect();
        format!("there is no column `{name}`; there are {}", names.join(", "))
    })
}

/// The column, with -0 as 0.
pub(crate) fn plain(column: &Column) -> Expr {
    if column.ty == ColumnType::Float { ident(&column.name) + lit(0.0) } else { ident(&column.name) }
}

/// Neither null nor NaN, which is beyond every number.
pub(crate) fn present(column: &Column) -> Expr {
    let there = ident(&column.name).is_not_null();
    if column.ty != ColumnType::Float {
        return there;
    }
    there
        .and(ident(&column.name).gt_eq(lit(f64::NEG_INFINITY)))
        .and(ident(&column.name).lt_eq(lit(f64::INFINITY)))
}

fn text(column: &Column) -> Result<Expr, String> {
    match column.ty {
        ColumnType::Text => Ok(ident(&column.name)),
        _ => Err(format!("`{}` is of type {}, not text", column.name, column.ty)),
    }
}

/// What columns differ in from those that are expected.
fn differences(full: &Schema, columns: &[(String, Option<ColumnType>)], closed: bool) -> Vec<String> {
    let mut found = Vec::new();
    for (name, ty) in columns {
        match (full.column(name), ty) {
            (None, _) => found.push(format!("`{name}` is missing")),
            (Some(column), Some(ty)) if column.ty != *ty => {
                found.push(format!("`{name}` is {} and not {ty}", column.ty));
            }
            _ => {}
        }
    }
    if closed {
        let extra = full.names().filter(|name| !columns.iter().any(|(n, _)| n == name));
        found.extend(extra.map(|name| format!("`{name}` is not expected")));
    }
    found
}

//! One expectation against columns: the expression or the counter that looks at it, or why there is none.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{Expr, SessionContext, ident, lit};
use datafusion::scalar::ScalarValue;

use crate::expect::literal::literal;
use crate::expect::matcher::Matcher;
use crate::expect::plan::{Bound, Given, Kind};
use crate::expect::quick::Quick;
use crate::expect::sense::crossed;
use crate::expect::suite::{Check, Expected, Suite};
use crate::expect::{Fault, Problem, config, sql};
use crate::{Column, ColumnType, Error, Schema};

/// Binds to columns; errors are texts for the outcome.
pub(super) struct Binder<'a> {
    session: &'a SessionContext,
    /// The columns of a batch.
    schema: &'a Schema,
    /// The columns of the rows, of which a batch may have only some.
    full: &'a Schema,
    arrow: DFSchema,
}

impl Suite {
    /// What does not fit columns, whatever the rows are.
    pub(crate) fn fit(&self, columns: &Schema) -> Vec<Problem> {
        let session = SessionContext::new();
        let Ok(binder) = Binder::new(&session, columns, columns, &columns.to_arrow()) else {
            return Vec::new();
        };
        let given = Given::default();
        let fault = |(at, expected): (usize, &Expected)| {
            Some(binder.kind(at, &expected.check, &given, &mut Vec::new()).err()?.at(at))
        };
        self.expected.iter().enumerate().filter_map(fault).collect()
    }
}

impl<'a> Binder<'a> {
    /// A binder to batches of `schema`, whose types there are `arrow`.
    pub(super) fn new(
        session: &'a SessionContext,
        schema: &'a Schema,
        full: &'a Schema,
        arrow: &SchemaRef,
    ) -> Result<Binder<'a>, Error> {
        let arrow = DFSchema::try_from(SchemaRef::clone(arrow));
        let arrow = arrow.map_err(|e| crate::store::query("understand the expectations", &e))?;
        Ok(Binder { session, schema, full, arrow })
    }

    pub(super) fn bind(&self, at: usize, check: &Check, given: &Given) -> Bound {
        let mut columns = Vec::new();
        let kind = self.kind(at, check, given, &mut columns);
        Bound { kind: kind.unwrap_or_else(|fault| Kind::Problem(fault.to_string())), columns }
    }

    fn kind(&self, at: usize, check: &Check, given: &Given, used: &mut Vec<usize>) -> Result<Kind, Fault> {
        Ok(match check {
            Check::Schema { columns, closed } => Kind::Columns(differences(self.full, columns, *closed)),
            Check::Volume(_) => Kind::Rows,
            Check::Unique(c) => {
                for (at, name) in c.columns.iter().enumerate() {
                    self.column(name, &format!("unique/columns/{at}"), used)?;
                }
                Kind::Unique(c.columns.clone())
            }
            Check::NotNull(c) => {
                let column = self.column(&c.column, "not_null/column", used)?;
                if c.max_share > 0.0 {
                    Kind::Share(self.physical(present(column), "not_null")?, c.max_share)
                } else {
                    Kind::Quick(place(used), Quick::Present)
                }
            }
            Check::Range(c) => {
                let column = self.column(&c.column, "range/column", used)?;
                self.range(column, c, place(used))?
            }
            Check::Set(c) => {
                let column = self.column(&c.column, "set/column", used)?;
                let value = |(at, v)| {
                    literal(v, &column.ty).map(lit).map_err(|why| unlike(&format!("set/values/{at}"), why))
                };
                let values: Vec<Expr> = c.values.iter().enumerate().map(value).collect::<Result<_, _>>()?;
                let texts = values.iter().map(|v| match v {
                    Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text.as_bytes().to_vec()),
                    _ => None,
                });
                match texts.collect::<Option<_>>() {
                    Some(texts) => Kind::Quick(place(used), Quick::Among(texts)),
                    None => Kind::Row(self.physical(plain(column).in_list(values, false), "set/values")?),
                }
            }
            Check::Pattern(c) => {
                text(self.column(&c.column, "pattern/column", used)?, "pattern/column")?;
                let matcher = Matcher::new(&c.regex).ok_or_else(|| {
                    Fault::new("pattern/regex", "this is no regular expression", "correct it")
                })?;
                Kind::Quick(place(used), Quick::Matches(matcher))
            }
            Check::Length(c) => {
                text(self.column(&c.column, "length/column", used)?, "length/column")?;
                let (min, max) = (c.min.unwrap_or(0), c.max.unwrap_or(u32::MAX));
                Kind::Quick(place(used), Quick::Length(min as usize, max as usize))
            }
            Check::Sql(condition) => {
                let key = "sql/condition";
                let wrong =
                    |why: String| Fault::new(key, why, "write a condition over the columns of one row");
                let holds = sql::condition(self.session, &self.arrow, condition).map_err(wrong)?;
                let mut names: Vec<&str> = holds.column_refs().iter().map(|c| c.name.as_str()).collect();
                names.sort_unstable();
                for name in names {
                    self.column(name, key, used)?;
                }
                Kind::Row(self.physical(holds, key)?)
            }
            Check::Freshness { column, max_age_ms, .. } => {
                let column = self.column(column, "freshness/column", used)?;
                if !matches!(column.ty, ColumnType::Timestamp | ColumnType::DateTime | ColumnType::Date) {
                    let what = format!("`{}` is of type {}, which is no time", column.name, column.ty);
                    let remedy = "take a column of type timestamp, datetime or date";
                    return Err(Fault::new("freshness/column", what, remedy));
                }
                Kind::Newest(place(used), *max_age_ms)
            }
            Check::Distribution { column, .. } => {
                let column = self.column(column, "distribution/column", used)?;
                if matches!(column.ty, ColumnType::Binary | ColumnType::List(_) | ColumnType::Struct(_)) {
                    let what =
                        format!("`{}` is of type {}, which has no distribution", column.name, column.ty);
                    let remedy = "take a column of numbers, times, texts or bools";
                    return Err(Fault::new("distribution/column", what, remedy));
                }
                match given.references.get(&at) {
                    Some(Ok(reference)) => Kind::Bins(place(used), Arc::clone(reference)),
                    Some(Err(why)) => Kind::Problem(why.clone()),
                    None => Kind::Problem("the reference was not read".to_owned()),
                }
            }
            Check::References { column, .. } => {
                self.column(column, "references/column", used)?;
                match given.keys.get(&at) {
                    Some(Ok(keys)) => Kind::Known(place(used), Arc::clone(keys)),
                    Some(Err(why)) => Kind::Problem(why.clone()),
                    None => Kind::Problem("the other dataset was not read".to_owned()),
                }
            }
        })
    }

    fn range(&self, column: &Column, c: &config::Range, at: usize) -> Result<Kind, Fault> {
        if matches!(
            column.ty,
            ColumnType::Bool | ColumnType::Binary | ColumnType::List(_) | ColumnType::Struct(_)
        ) {
            let what = format!("`{}` is of type {}, which has no order", column.name, column.ty);
            return Err(Fault::new(
                "range/column",
                what,
                "take a column of numbers, times or texts, or `set`",
            ));
        }
        let bound = |value: &Option<serde_json::Value>, key: &str| {
            let value = value.as_ref().map(|value| literal(value, &column.ty));
            value.transpose().map_err(|why| unlike(key, why))
        };
        let (min, max) = (bound(&c.min, "range/min")?, bound(&c.max, "range/max")?);
        if let (Some(low), Some(high)) = (&min, &max)
            && low.partial_cmp(high) == Some(std::cmp::Ordering::Greater)
        {
            return Err(crossed("range/min", low, high));
        }
        if let Some(quick) = quick_range(&column.ty, &min, &max) {
            return Ok(Kind::Quick(at, quick));
        }
        // A NaN is beyond every number, in one direction or the other.
        let or = |value: Option<ScalarValue>, beyond: f64| {
            value.map(lit).or_else(|| (column.ty == ColumnType::Float).then(|| lit(beyond)))
        };
        let min = or(min, f64::NEG_INFINITY).map(|min| plain(column).gt_eq(min));
        let max = or(max, f64::INFINITY).map(|max| plain(column).lt_eq(max));
        let holds = min.into_iter().chain(max).reduce(Expr::and).unwrap_or_else(|| lit(true));
        Ok(Kind::Row(self.physical(holds, "range")?))
    }

    /// The column, its place noted.
    fn column(&self, name: &str, key: &str, used: &mut Vec<usize>) -> Result<&Column, Fault> {
        known(self.full, name, key)?;
        let (at, column) = known(self.schema, name, key)?;
        used.push(at);
        Ok(column)
    }

    fn physical(&self, expr: Expr, key: &str) -> Result<Arc<dyn PhysicalExpr>, Fault> {
        let failed =
            |e: datafusion::error::DataFusionError| Fault::new(key, e.to_string(), "write it otherwise");
        self.session.create_physical_expr(expr, &self.arrow).map_err(failed)
    }
}

/// The place that was noted last.
fn place(used: &[usize]) -> usize {
    used.last().copied().unwrap_or_default()
}

fn known<'a>(schema: &'a Schema, name: &str, key: &str) -> Result<(usize, &'a Column), Fault> {
    let found = schema.columns.iter().enumerate().find(|(_, c)| c.name == name);
    found.ok_or_else(|| {
        let remedy = yaml::problem::suggest(name, "the columns are", schema.names());
        Fault::new(key, format!("there is no column `{name}`"), remedy)
    })
}

/// A value that is none of its column.
fn unlike(key: &str, why: String) -> Fault {
    Fault::new(key, why, "write a value of the column's type; dates and times as ISO 8601 text in quotes")
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

fn text(column: &Column, key: &str) -> Result<(), Fault> {
    match column.ty {
        ColumnType::Text => Ok(()),
        _ => {
            let what = format!("`{}` is of type {}, not text", column.name, column.ty);
            Err(Fault::new(key, what, "take a column of type text"))
        }
    }
}

/// A range of numbers without a bound of another type: one with a fraction, of an `int`, is left to the general expression.
fn quick_range(ty: &ColumnType, min: &Option<ScalarValue>, max: &Option<ScalarValue>) -> Option<Quick> {
    let float = |bound: &Option<ScalarValue>, beyond| match bound {
        None => Some(beyond),
        Some(ScalarValue::Float64(x)) => *x,
        Some(_) => None,
    };
    let int = |bound: &Option<ScalarValue>, beyond| match bound {
        None => Some(beyond),
        Some(ScalarValue::Int64(n)) => *n,
        Some(_) => None,
    };
    match ty {
        ColumnType::Float => Some(Quick::Floats(float(min, f64::NEG_INFINITY)?, float(max, f64::INFINITY)?)),
        ColumnType::Int => Some(Quick::Ints(int(min, i64::MIN)?, int(max, i64::MAX)?)),
        _ => None,
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

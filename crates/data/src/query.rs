//! Queries over versions: SQL that only reads, whose tables are versions that somebody pinned, within the bounds of the warehouse.

use std::collections::{BTreeMap, HashMap};

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, ScalarValue, TableReference};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{ExprSchemable, LogicalPlan};
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;

use crate::columns::{self, Traced};
use crate::dataset::{Dataset, Rows};
use crate::{Error, Schema, Warehouse, store};

/// What Delta tables allow in no name of a column.
const UNNAMED: &str = " ,;{}()\n\t=";

/// A query that reads as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) sql: String,
    /// The tables it names, in order, as they have to be called.
    pub(crate) tables: Vec<String>,
}

/// A value that a query names as `$name`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Query {
    /// Reads a text as one statement that gives rows; no table is looked up. The error says where.
    pub(crate) fn parse(sql: &str) -> Result<Query, String> {
        let state = SessionContext::new().state();
        let dialect = state.config_options().sql_parser.dialect;
        let statement = state.sql_to_statement(sql, &dialect).map_err(|e| said(&e.to_string()))?;
        let Statement::Statement(inner) = &statement else {
            return Err("it is not a query: write one statement that begins with `select` or `with`".into());
        };
        if !matches!(**inner, Sql::Query(_)) {
            return Err("it is not a query: write one statement that begins with `select` or `with`".into());
        }
        let references = state.resolve_table_references(&statement).map_err(|e| said(&e.to_string()))?;
        let mut tables = Vec::new();
        for reference in references {
            match reference {
                TableReference::Bare { table } => tables.push(table.to_string()),
                other => {
                    return Err(format!(
                        "`{other}` has a schema before its name: tables have plain names here"
                    ));
                }
            }
        }
        tables.sort();
        tables.dedup();
        Ok(Query { sql: sql.to_owned(), tables })
    }
}

/// Without the layers that were passed on the way.
fn said(error: &str) -> String {
    let plain = error.strip_prefix("SQL error: ").unwrap_or(error);
    let plain = plain.strip_prefix("ParserError(\"").and_then(|p| p.strip_suffix("\")")).unwrap_or(plain);
    plain.replace("\\\"", "\"")
}

impl Warehouse {
    /// The rows of a query over versions, made as they are read.
    ///
    /// # Errors
    /// [`Error::Query`] for what cannot be planned, [`Error::Invalid`] for columns that cannot be a dataset's; then as
    /// [`Dataset::read`].
    pub(crate) async fn query(
        &self,
        query: &Query,
        tables: &[(String, Dataset, u64)],
        values: &BTreeMap<String, Given>,
    ) -> Result<Rows, Error> {
        let failed = |e| store::query("run the query", &e);
        let session = self.session();
        for (name, dataset, version) in tables {
            let table = dataset.at_version(*version).await?;
            let frame = dataset.frame(&session, &table).await?;
            session.register_table(TableReference::bare(name.as_str()), frame.into_view()).map_err(failed)?;
        }
        let reads =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let mut frame = Box::pin(session.sql_with_options(&query.sql, reads)).await.map_err(failed)?;
        if !values.is_empty() {
            let values: HashMap<String, ScalarValue> =
                values.iter().map(|(name, value)| (name.clone(), value.scalar())).collect();
            frame = frame.with_param_values(ParamValues::from(values)).map_err(failed)?;
        }
        // The engine's merge join, which goes through files, compares no instants; its hash join does, in memory.
        if joins_instants(&frame.clone().into_optimized_plan().map_err(failed)?).map_err(failed)? {
            let (mut state, plan) = frame.into_parts();
            state.config_mut().options_mut().optimizer.prefer_hash_join = true;
            frame = DataFrame::new(state, plan);
        }
        let schema = schema_of(frame.schema().as_arrow())?;
        let of = tables.iter().map(|(_, dataset, version)| (dataset.clone(), *version)).collect();
        Box::pin(Rows::run_of(frame, schema, of)).await
    }
}

impl Warehouse {
    /// Which columns of versions a query makes its columns of.
    ///
    /// # Errors
    /// As [`Warehouse::query`].
    pub(crate) async fn trace(
        &self,
        query: &Query,
        tables: &[(String, Dataset, u64)],
    ) -> Result<Traced, Error> {
        let mut known = Vec::with_capacity(tables.len());
        for (name, dataset, version) in tables {
            let schema = dataset.schema_of(&dataset.at_version(*version).await?)?;
            known.push((name.as_str(), schema.to_arrow()));
        }
        columns::trace(&query.sql, &known).await
    }
}

/// Whether rows are joined by an instant.
fn joins_instants(plan: &LogicalPlan) -> Result<bool, DataFusionError> {
    let mut found = false;
    plan.apply(|node| {
        if let LogicalPlan::Join(join) = node {
            for (left, _) in &join.on {
                found |= matches!(left.get_type(join.left.schema())?, DataType::Timestamp(_, Some(_)));
            }
        }
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

impl Given {
    fn scalar(&self) -> ScalarValue {
        match self {
            Given::Text(text) => ScalarValue::Utf8(Some(text.clone())),
            Given::Int(int) => ScalarValue::Int64(Some(*int)),
            Given::Float(float) => ScalarValue::Float64(Some(*float)),
            Given::Bool(bool) => ScalarValue::Boolean(Some(*bool)),
        }
    }
}

/// The columns of a result, which have to be such as a dataset has.
fn schema_of(arrow: &arrow::datatypes::Schema) -> Result<Schema, Error> {
    let schema = Schema::from_arrow(arrow).map_err(|(column, ty)| {
        let why = format!("it is of type {ty}, which no dataset has; cast it, as `cast({column} as text)`");
        Error::invalid(format!("the column `{column}` of the query"), why)
    })?;
    let mut seen: Vec<String> = Vec::new();
    for name in schema.names() {
        let folded = name.to_lowercase();
        if name.is_empty() || name.contains(|c| UNNAMED.contains(c)) {
            let why = "that is no name of a column; give it one, as `… as total`";
            return Err(Error::invalid(format!("the column `{name}` of the query"), why));
        }
        if seen.contains(&folded) {
            let why = "there are two of that name; name one of them by `as`";
            return Err(Error::invalid(format!("the column `{name}` of the query"), why));
        }
        seen.push(folded);
    }
    Ok(schema)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_names_its_tables_and_not_those_it_makes_itself() {
        let q = Query::parse(
            "with c as (select * from A) select * from c join \"B@july\" b on b.x = c.x where y in (select y from d)",
        );
        assert_eq!(q.unwrap().tables, ["B@july", "a", "d"]);
        assert!(Query::parse("select 1 as one").unwrap().tables.is_empty());
    }

    #[test]
    fn what_is_no_query_is_refused_with_its_place() {
        let wrong = |sql: &str| Query::parse(sql).unwrap_err();
        let said = wrong("select a\n from x where ) = 1");
        assert!(said.contains("Line: 2"), "{said}");
        for sql in [
            "insert into x values (1)",
            "create table x as select 1",
            "drop table x",
            "copy x to 'y'",
            "",
            "select 1; select 2",
            "set a = 1",
            "explain select 1",
        ] {
            assert!(!wrong(sql).is_empty(), "{sql}");
        }
        assert!(wrong("select * from other.x").contains("plain names"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_text_breaks_the_reader(sql in "(select|from|where|\\(|\\)|,|'|\"|x|1| |\\PC){0,12}") {
            let _ = Query::parse(&sql);
        }
    }
}

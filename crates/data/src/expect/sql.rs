//! A condition of a user's own: read as SQL, and taken only when its answer depends on the columns of one row and nothing else.

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ExprSchemable, Volatility};
use datafusion::prelude::{Expr, SessionContext};

use arrow::datatypes::DataType;

/// Whether a text reads as an expression of SQL at all; no column is looked up.
pub(crate) fn syntax(condition: &str) -> Result<(), String> {
    let state = SessionContext::new().state();
    let dialect = state.config_options().sql_parser.dialect;
    match state.sql_to_expr(condition, &dialect) {
        Ok(_) => Ok(()),
        Err(error) => Err(plain(&error)),
    }
}

/// The engine's words without its own names for where they come from.
fn plain(error: &DataFusionError) -> String {
    let said = error.strip_backtrace();
    let cut = ["SQL error: ParserError(\"", "Schema error: ", "Error during planning: ", "Invalid function "];
    let text = cut.iter().fold(said.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    text.trim_end_matches("\")").replace('\n', " ")
}

/// The condition over these columns, true, false or null for a row.
pub(crate) fn condition(session: &SessionContext, schema: &DFSchema, text: &str) -> Result<Expr, String> {
    let expr = session.state().create_logical_expr(text, schema).map_err(|e| plain(&e))?;
    let mut refused = None;
    let walked = expr.apply(|part| {
        refused = refusal(part);
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    walked.map_err(|e| e.to_string())?;
    if let Some(why) = refused {
        return Err(why);
    }
    match expr.get_type(schema).map_err(|e| e.to_string())? {
        DataType::Boolean => Ok(expr),
        other => Err(format!("it is of type {other}, and a condition is true or false")),
    }
}

/// Why a part of an expression is not taken. What is not known to be plain is not.
fn refusal(part: &Expr) -> Option<String> {
    match part {
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::Literal(..)
        | Expr::BinaryExpr(_)
        | Expr::Like(_)
        | Expr::SimilarTo(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::InList(_) => None,
        Expr::ScalarFunction(call) => match call.func.signature().volatility {
            Volatility::Immutable => None,
            Volatility::Stable | Volatility::Volatile => {
                Some(format!("`{}` answers by more than the row: by the clock, or by chance", call.name()))
            }
        },
        Expr::AggregateFunction(_) | Expr::WindowFunction(_) => {
            Some("it looks at more than one row; a condition is over the columns of one".to_owned())
        }
        Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) | Expr::ScalarSubquery(_) => {
            Some("it holds a query; a condition is over the columns of one row".to_owned())
        }
        other => Some(format!("`{other}` is not a plain expression over the columns of one row")),
    }
}

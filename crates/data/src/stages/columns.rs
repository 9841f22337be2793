//! A table's columns in memory, for what learns from them.

use super::Means;
use super::error::failed;
use super::table::Table;
use crate::Typed;

/// The columns of the version that `table` names (`DATASET@NAME`), whole and in one order.
///
/// # Errors
/// A text that names no table, a version that is gone, a data file that is damaged.
pub async fn columns(means: &dyn Means, table: &str) -> Result<Typed, contract::Error> {
    let warehouse = means.warehouse()?;
    let table = Table::find(&warehouse, table).await?;
    Box::pin(table.dataset.typed(table.version)).await.map_err(failed)
}

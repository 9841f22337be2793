//! A table as a file, for what works on files: commands of `exec`.

use std::path::{Path, PathBuf};

use super::Means;
use super::error::failed;
use super::table::Table;
use crate::Format;

/// Writes the version that `table` names into `folder`, which has to be there, as one file called after the dataset. The file
/// is there in full or not at all. Its rows stand in one order for a version: as they came where they are one data file, sorted by
/// their columns where they are several.
///
/// # Errors
/// A text that names no table, a version that is gone, a disk that is full.
pub async fn place(
    means: &dyn Means,
    table: &str,
    folder: &Path,
    format: Format,
) -> Result<PathBuf, contract::Error> {
    let warehouse = means.warehouse()?;
    let table = Table::find(&warehouse, table).await?;
    let ending = match format {
        Format::Csv => "csv",
        Format::Json => "jsonl",
        Format::Parquet => "parquet",
        Format::Arrow => "arrow",
    };
    let file = folder.join(format!("{}.{ending}", table.dataset.name()));
    let rows = Box::pin(table.dataset.in_order(table.version)).await.map_err(failed)?;
    Box::pin(rows.write(&file, format)).await.map_err(failed)?;
    Ok(file)
}

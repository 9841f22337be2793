//! Columns as whoever computes with them needs them: plain vectors, whole and in memory.
//!
//! The rows of a version stand in one order whenever they are read, so that what is computed of a version is the same each time.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};

use crate::query::Query;
use crate::{Column, ColumnType, Dataset, Error, Rows, Schema, Warehouse};

/// The values of a column, one for each row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cells {
    /// Numbers: of `int`, `float`, `decimal` and `bool` (1 and 0); NaN is a missing one.
    Numbers(Vec<f64>),
    /// The numbers of texts; [`Cells::MISSING`] is a missing one.
    Texts {
        /// Each row's text, by its place in `words`.
        codes: Vec<u32>,
        /// The texts, each once, in the order in which they came.
        words: Vec<String>,
    },
    /// Milliseconds since the Unix epoch, of `timestamp`, `datetime` (as if in UTC) and `date` (its first instant);
    /// [`Cells::NEVER`] is a missing one.
    Times(Vec<i64>),
}

impl Cells {
    /// A missing text.
    pub const MISSING: u32 = u32::MAX;
    /// A missing time.
    pub const NEVER: i64 = i64::MIN;
}

/// The columns of a version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Typed {
    /// Names and values, in the dataset's order.
    pub columns: Vec<(String, Cells)>,
    /// How many rows there are.
    pub rows: u64,
    /// The columns that are none of these: lists, structs and bytes.
    pub left_out: Vec<String>,
}

impl Typed {
    /// The columns of a batch of rows under `schema`.
    ///
    /// # Errors
    /// [`Error::Query`] for an array that is not of its column's type.
    pub(crate) fn of(schema: &Schema, batch: &RecordBatch) -> Result<Typed, Error> {
        let mut typed = Typed { rows: batch.num_rows() as u64, ..Typed::default() };
        for (column, array) in schema.columns.iter().zip(batch.columns()) {
            match Growing::of(column) {
                Some(mut growing) => {
                    growing.take(array).ok_or_else(|| unreadable(&column.name, array))?;
                    typed.columns.push((column.name.clone(), growing.cells));
                }
                None => typed.left_out.push(column.name.clone()),
            }
        }
        Ok(typed)
    }
}

fn unreadable(column: &str, array: &ArrayRef) -> Error {
    Error::Query(format!("the column `{column}` is {}, and cannot be read", array.data_type()))
}

impl Dataset {
    /// All columns of a version. They are in memory, whole: eight bytes a number or a time, four and its texts once a text.
    ///
    /// # Errors
    /// [`Error::NoVersion`], [`Error::Storage`] for a data file that is missing or damaged, [`Error::Memory`].
    pub async fn typed(&self, version: u64) -> Result<Typed, Error> {
        gathered(self.in_order(version).await?).await
    }
}

impl Warehouse {
    /// The columns of a query over versions, by the names that it calls them, in memory.
    ///
    /// # Errors
    /// [`Error::Query`] for what is no query or cannot be planned; then as [`Dataset::read`].
    pub async fn ask(&self, sql: &str, tables: &[(&str, Dataset, u64)]) -> Result<Typed, Error> {
        let query = Query::parse(sql).map_err(Error::Query)?;
        let tables: Vec<(String, Dataset, u64)> = tables
            .iter()
            .map(|(name, dataset, version)| ((*name).to_owned(), dataset.clone(), *version))
            .collect();
        gathered(Box::pin(self.query(&query, &tables, &BTreeMap::new())).await?).await
    }
}

async fn gathered(mut rows: Rows) -> Result<Typed, Error> {
    let mut typed = Typed::default();
    let mut columns: Vec<Option<Growing>> = rows.schema().columns.iter().map(Growing::of).collect();
    for (column, growing) in rows.schema().columns.iter().zip(&columns) {
        if growing.is_none() {
            typed.left_out.push(column.name.clone());
        }
    }
    let names: Vec<String> = rows.schema().names().map(str::to_owned).collect();
    while let Some(batch) = rows.next_arrow().await? {
        typed.rows += batch.num_rows() as u64;
        for ((growing, array), name) in columns.iter_mut().zip(batch.columns()).zip(&names) {
            let Some(growing) = growing else { continue };
            growing.take(array).ok_or_else(|| unreadable(name, array))?;
        }
    }
    typed.columns = names.into_iter().zip(columns).filter_map(|(name, c)| Some((name, c?.cells))).collect();
    Ok(typed)
}

/// A column that grows by batches.
struct Growing {
    cells: Cells,
    /// Places of texts that came before.
    known: HashMap<String, u32>,
}

impl Growing {
    fn of(column: &Column) -> Option<Growing> {
        let cells = match column.ty {
            ColumnType::Bool | ColumnType::Int | ColumnType::Float | ColumnType::Decimal(..) => {
                Cells::Numbers(Vec::new())
            }
            ColumnType::Text => Cells::Texts { codes: Vec::new(), words: Vec::new() },
            ColumnType::Date | ColumnType::Timestamp | ColumnType::DateTime => Cells::Times(Vec::new()),
            ColumnType::Binary | ColumnType::List(_) | ColumnType::Struct(_) => return None,
        };
        Some(Growing { cells, known: HashMap::new() })
    }

    /// Appends; nothing when the array is not of the column's type.
    fn take(&mut self, array: &ArrayRef) -> Option<()> {
        const MICROS: i64 = 1_000;
        const DAY: i64 = 86_400_000;
        match &mut self.cells {
            Cells::Numbers(all) => match array.data_type() {
                #[expect(clippy::cast_precision_loss, reason = "what is computed with is a double")]
                DataType::Int64 => {
                    let each = array.as_primitive::<Int64Type>().iter();
                    all.extend(each.map(|n| n.map_or(f64::NAN, |n| n as f64)));
                }
                DataType::Float64 if array.null_count() == 0 => {
                    all.extend_from_slice(array.as_primitive::<Float64Type>().values());
                }
                DataType::Float64 => {
                    all.extend(array.as_primitive::<Float64Type>().iter().map(|x| x.unwrap_or(f64::NAN)));
                }
                DataType::Boolean => {
                    all.extend(array.as_boolean().iter().map(|b| b.map_or(f64::NAN, f64::from)));
                }
                DataType::Decimal128(..) => {
                    let array = cast(array, &DataType::Float64).ok()?;
                    all.extend(array.as_primitive::<Float64Type>().iter().map(|x| x.unwrap_or(f64::NAN)));
                }
                _ => return None,
            },
            Cells::Texts { codes, words } => {
                for text in array.as_string_opt::<i32>()? {
                    let Some(text) = text else {
                        codes.push(Cells::MISSING);
                        continue;
                    };
                    let code = match self.known.get(text) {
                        Some(code) => *code,
                        None => {
                            let next = u32::try_from(words.len()).ok()?;
                            words.push(text.to_owned());
                            self.known.insert(text.to_owned(), next);
                            next
                        }
                    };
                    codes.push(code);
                }
            }
            Cells::Times(all) => match array.data_type() {
                DataType::Timestamp(..) => {
                    let each = array.as_primitive_opt::<TimestampMicrosecondType>()?.iter();
                    all.extend(each.map(|t| t.map_or(Cells::NEVER, |t| t.div_euclid(MICROS))));
                }
                DataType::Date32 => {
                    let each = array.as_primitive::<Date32Type>().iter();
                    all.extend(each.map(|d| d.map_or(Cells::NEVER, |d| i64::from(d).saturating_mul(DAY))));
                }
                _ => return None,
            },
        }
        Some(())
    }
}

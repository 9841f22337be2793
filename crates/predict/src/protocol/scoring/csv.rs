//! A frame out of CSV: the first line names the columns, and what all of a column's values are makes its type.

use crate::error::Error;
use crate::protocol::scoring::Scored;
use crate::tabular::{Cell, Frame};

/// Reads a body of `text/csv`.
///
/// # Errors
/// No head, a line of another length, or text that is not UTF-8; the line is named.
pub fn csv(body: &[u8]) -> Result<Scored, Error> {
    let mut reader = csv::ReaderBuilder::new().from_reader(body);
    let wrong = |e: csv::Error| Error::invalid(format!("the CSV cannot be read: {e}"));
    let names: Vec<String> = reader.headers().map_err(wrong)?.iter().map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Error::invalid("the CSV is empty: its first line names the columns"));
    }
    let mut texts: Vec<Vec<String>> = names.iter().map(|_| Vec::new()).collect();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        texts.iter_mut().zip(&record).for_each(|(column, text)| column.push(text.to_owned()));
    }
    let columns = texts.into_iter().map(typed).collect();
    Ok(Scored::Frame(Frame { names: Some(names), columns }))
}

/// What pandas reads as missing and a model may be sent.
const MISSING: [&str; 6] = ["", "NaN", "nan", "null", "NULL", "NA"];

/// A column in the narrowest type that holds all of it.
fn typed(texts: Vec<String>) -> Vec<Cell> {
    let missing = |t: &str| MISSING.contains(&t);
    let there = || texts.iter().map(|t| t.trim()).filter(|t| !missing(t));
    let all = |is: fn(&str) -> bool| there().all(is);
    let cell: fn(&str) -> Cell = if all(|t| t.parse::<i64>().is_ok()) {
        |t| t.parse().map_or(Cell::Null, Cell::Int)
    } else if all(|t| t.parse::<f64>().is_ok()) {
        |t| t.parse().map_or(Cell::Null, Cell::Float)
    } else if all(|t| matches!(t, "True" | "False" | "true" | "false")) {
        |t| Cell::Bool(t.eq_ignore_ascii_case("true"))
    } else {
        return texts.into_iter().map(|t| if t.is_empty() { Cell::Null } else { Cell::Text(t) }).collect();
    };
    texts.iter().map(|t| t.trim()).map(|t| if missing(t) { Cell::Null } else { cell(t) }).collect()
}

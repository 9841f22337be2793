//! Values that come as JSON, a list for each column: pushed rows, and the entities that are asked for.
//!
//! Times are taken as Feast's clients send them too: an instant in ISO 8601, the same without a zone (it is in UTC then), or
//! seconds since the epoch. Floats that JSON has no number for are `"NaN"`, `"Infinity"` and `"-Infinity"`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options, filter};
use arrow::datatypes::{DataType, Field, Float64Type, Schema as ArrowSchema};
use arrow::error::ArrowError;
use serde_json::{Value as Json, json};

use crate::dataset::cell;
use crate::features::latest::Stamp;
use crate::features::online::disk::Journaled;
use crate::features::online::table::{Offers, Shape};
use crate::features::view::FeatureView;
use crate::source::{Batches as _, Growing, parse_date, parse_datetime, parse_timestamp};
use crate::{Column, ColumnType, Error, Source};

/// Columns by name, a list of values each, all of a length.
pub type Columns = Vec<(String, Vec<Json>)>;

/// What Feast's clients call the event time and the time of creation, whatever a view calls them.
const FEAST_EVENT: &str = "event_timestamp";
const FEAST_CREATED: [&str; 2] = ["created", "created_timestamp"];

/// The rows of files as columns, some thousand at a time. They are all in memory.
///
/// # Errors
/// [`Error::Source`], as for adding them to a dataset.
pub async fn columns(source: &Source) -> Result<Vec<Columns>, Error> {
    let source = source.clone();
    let reading = pipeline::task::blocking("features-read", move || {
        let mut reader = source.open(&source.infer()?)?;
        let mut all = Vec::new();
        while let Some(batch) = reader.next()? {
            let schema = batch.schema();
            let column = |(field, array): (&Arc<Field>, &ArrayRef)| {
                (field.name().clone(), (0..batch.num_rows()).map(|row| written(array, row)).collect())
            };
            all.push(schema.fields().iter().zip(batch.columns()).map(column).collect());
        }
        Ok(all)
    });
    reading.await.map_err(super::crashed)?
}

/// The values of a column that has to be there.
pub(super) fn named<'a>(columns: &'a Columns, name: &str) -> Option<&'a [Json]> {
    columns.iter().find(|(theirs, _)| theirs == name).map(|(_, values)| values.as_slice())
}

/// How many rows columns have.
pub(super) fn rows(columns: &Columns) -> Result<usize, Error> {
    let rows = columns.first().map_or(0, |(_, values)| values.len());
    match columns.iter().find(|(_, values)| values.len() != rows) {
        None => Ok(rows),
        Some((name, values)) => {
            let why = format!("it has {} values and the first column {rows}", values.len());
            Err(Error::invalid(format!("the column `{name}`"), why))
        }
    }
}

/// Values as an array of a column's type.
pub(super) fn array(column: &Column, values: &[Json]) -> Result<ArrayRef, Error> {
    let misfit = |row: usize| {
        let value = values.get(row).map(ToString::to_string).unwrap_or_default();
        let shown: String = value.chars().take(60).collect();
        let why = format!("row {row} has {shown}, and the column is of type {}", column.ty);
        Error::invalid(format!("the column `{}`", column.name), why)
    };
    match &column.ty {
        ColumnType::Timestamp | ColumnType::DateTime => {
            let mut times = Vec::with_capacity(values.len());
            for (row, value) in values.iter().enumerate() {
                times.push(match value {
                    Json::Null => None,
                    value => Some(moment(value).ok_or_else(|| misfit(row))?),
                });
            }
            Ok(Arc::new(TimestampMicrosecondArray::from(times).with_data_type(column.ty.to_arrow())))
        }
        ColumnType::List(_) | ColumnType::Struct(_) => nested(column, values),
        ty => {
            let mut growing = Growing::new(ty).ok_or_else(|| misfit(0))?;
            for (row, value) in values.iter().enumerate() {
                fitting(&mut growing, ty, value).ok_or_else(|| misfit(row))?;
            }
            Ok(growing.finish())
        }
    }
}

fn fitting(growing: &mut Growing, ty: &ColumnType, value: &Json) -> Option<()> {
    match (ty, value) {
        (ColumnType::Float, Json::String(word)) => match word.as_str() {
            "NaN" => growing.push("NaN"),
            "Infinity" => growing.push("inf"),
            "-Infinity" => growing.push("-inf"),
            _ => None,
        },
        (ColumnType::Date, Json::String(text)) => {
            // A day that was put into a time, as data frames do.
            growing.push(text.get(..10).filter(|_| moment(value).is_some()).unwrap_or(text))
        }
        // Whole numbers come as floats where a column of them had a gap.
        (ColumnType::Int, Json::Number(n)) if n.as_i64().is_none() => {
            let whole = n.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9.0e15)?;
            growing.push(&format!("{whole:.0}"))
        }
        _ => growing.push_json(value),
    }
}

fn nested(column: &Column, values: &[Json]) -> Result<ArrayRef, Error> {
    let misfit = |e: ArrowError| Error::invalid(format!("the column `{}`", column.name), e.to_string());
    let schema = Arc::new(ArrowSchema::new(vec![Field::new("x", column.ty.to_arrow(), true)]));
    let mut decoder = arrow::json::ReaderBuilder::new(schema)
        .with_batch_size(values.len().max(1))
        .build_decoder()
        .map_err(misfit)?;
    let rows: Vec<Json> = values.iter().map(|value| json!({"x": value})).collect();
    decoder.serialize(&rows).map_err(misfit)?;
    let batch = decoder.flush().map_err(misfit)?;
    let array = batch.and_then(|batch| batch.columns().first().cloned());
    Ok(array.unwrap_or_else(|| new_null_array(&column.ty.to_arrow(), 0)))
}

/// Microseconds since the epoch.
fn moment(value: &Json) -> Option<i64> {
    match value {
        Json::String(text) => parse_timestamp(text)
            .or_else(|| parse_datetime(text))
            .or_else(|| Some(i64::from(parse_date(text)?) * 86_400_000_000)),
        Json::Number(n) => match n.as_i64() {
            Some(seconds) => seconds.checked_mul(1_000_000),
            #[expect(clippy::cast_possible_truncation, reason = "the value is within the range of the type")]
            None => n.as_f64().map(|s| s * 1e6).filter(|us| us.abs() < 9.0e18).map(|us| us.round() as i64),
        },
        _ => None,
    }
}

/// A value as it is written into the journal: [`array`] reads it back.
pub(super) fn written(array: &ArrayRef, row: usize) -> Json {
    if array.data_type() == &DataType::Float64 && !array.is_null(row) {
        let x = array.as_primitive::<Float64Type>().value(row);
        if !x.is_finite() {
            return if x.is_nan() {
                "NaN"
            } else if x > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            }
            .into();
        }
    }
    cell(array, row)
}

/// Pushed rows as rows of the view's table. A row that says nothing of when it became known did so `now`, in microseconds.
pub(super) fn offers(
    view: &FeatureView,
    shape: &Shape,
    columns: &Columns,
    now: i64,
) -> Result<Offers, Error> {
    let rows = rows(columns)?;
    let lacking = |what: &str, name: &str| {
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let why = format!("the rows have {}", names.join(", "));
        Error::invalid(format!("the {what} `{name}` of the feature view `{}`", view.name()), why)
    };
    let null = |what: &str, name: &str, row: usize| {
        let why = format!("row {row} has none");
        Error::invalid(format!("the {what} `{name}` of the feature view `{}`", view.name()), why)
    };
    let mut keys = Vec::with_capacity(shape.keys);
    for column in shape.keys() {
        let values = named(columns, &column.name).ok_or_else(|| lacking("key", &column.name))?;
        let array = array(column, values)?;
        if let Some(row) = (0..rows).find(|row| array.is_null(*row)) {
            return Err(null("key", &column.name, row));
        }
        keys.push(array);
    }
    let event = &view.config().event_time;
    let events = named(columns, event)
        .or_else(|| named(columns, FEAST_EVENT))
        .ok_or_else(|| lacking("event time", event))?;
    let ingest = view.config().ingest_time.as_deref();
    let ingests = ingest
        .and_then(|name| named(columns, name))
        .or_else(|| FEAST_CREATED.iter().filter(|_| ingest.is_some()).find_map(|name| named(columns, name)));
    let mut stamps = Vec::with_capacity(rows);
    for (row, value) in events.iter().enumerate() {
        let event = moment(value).ok_or_else(|| null("event time", event, row))?;
        let said = ingests.and_then(|values| values.get(row)).filter(|value| !value.is_null());
        let ingest = match (said, ingest) {
            (_, None) => event,
            (None, Some(_)) => now,
            (Some(value), Some(name)) => moment(value).ok_or_else(|| null("ingest time", name, row))?,
        };
        stamps.push(Stamp { event, ingest });
    }
    let mut features = Vec::new();
    for column in shape.columns.columns.iter().skip(shape.first_feature()) {
        let values = named(columns, &column.name).ok_or_else(|| lacking("feature", &column.name))?;
        features.push(array(column, values)?);
    }
    Ok(Offers { keys, stamps, features })
}

/// What a journal holds, under the columns of a view, which may be others since. `None` when it has no such keys.
pub(super) fn replayed(shape: &Shape, of: Journaled) -> Option<Offers> {
    let rows = of.stamps.len();
    let column = |column: &Column| {
        let values = named(&of.columns, &column.name)?;
        if let Ok(array) = array(column, values) {
            return Some(array);
        }
        let each = values.iter().map(|value| array(column, std::slice::from_ref(value)).ok());
        let null = new_null_array(&column.ty.to_arrow(), 1);
        let each: Vec<ArrayRef> = each.map(|one| one.unwrap_or_else(|| Arc::clone(&null))).collect();
        let each: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
        arrow::compute::concat(&each).ok()
    };
    let keys = shape.keys().map(column).collect::<Option<_>>()?;
    let features = shape.columns.columns.iter().skip(shape.first_feature());
    let features =
        features.map(|c| column(c).unwrap_or_else(|| new_null_array(&c.ty.to_arrow(), rows))).collect();
    let stamps = of.stamps.iter().map(|(event, ingest)| Stamp { event: *event, ingest: *ingest }).collect();
    with_keys(Offers { keys, stamps, features })
}

/// Rows under the columns of another shape: by their names, what does not fit as null. `None` without the keys.
pub(super) fn converted(rows: Offers, from: &Shape, to: &Shape) -> Option<Offers> {
    if from == to {
        return Some(rows);
    }
    let lenient = CastOptions { safe: true, ..CastOptions::default() };
    let theirs = from.keys().chain(from.columns.columns.iter().skip(from.first_feature()));
    let held: Vec<(&Column, &ArrayRef)> = theirs.zip(rows.keys.iter().chain(&rows.features)).collect();
    let column = |column: &Column| {
        let (_, array) = held.iter().find(|(theirs, _)| theirs.name == column.name)?;
        cast_with_options(array, &column.ty.to_arrow(), &lenient).ok()
    };
    let keys = to.keys().map(column).collect::<Option<_>>()?;
    let features = to.columns.columns.iter().skip(to.first_feature());
    let nulls = |c: &Column| new_null_array(&c.ty.to_arrow(), rows.stamps.len());
    let features = features.map(|c| column(c).unwrap_or_else(|| nulls(c))).collect();
    with_keys(Offers { keys, stamps: rows.stamps, features })
}

/// Without the rows that lost their key.
fn with_keys(rows: Offers) -> Option<Offers> {
    let whole: Vec<bool> =
        (0..rows.stamps.len()).map(|row| rows.keys.iter().all(|key| !key.is_null(row))).collect();
    if whole.iter().all(|whole| *whole) {
        return Some(rows);
    }
    let mask = BooleanArray::from(whole.clone());
    let kept = |arrays: &[ArrayRef]| arrays.iter().map(|a| filter(a, &mask).ok()).collect::<Option<Vec<_>>>();
    let stamps = rows.stamps.iter().zip(&whole).filter(|(_, whole)| **whole).map(|(stamp, _)| *stamp);
    Some(Offers { keys: kept(&rows.keys)?, stamps: stamps.collect(), features: kept(&rows.features)? })
}

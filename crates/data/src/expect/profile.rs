//! What a version is like, and the expectations that follow from it: a start for a person, who knows what is chance.
//!
//! What holds in every row without exception is proposed as an error only where a gap would be news whatever the data (columns,
//! nulls, keys); bounds and sets seen so far are proposed as warnings. All proposals hold for the version they come from.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, max, min};
use arrow::datatypes::{DataType, Int64Type};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use crate::expect::config::{
    Config, Expectation, Extra, Freshness, Length, NotNull, Pattern, Range, SchemaCheck, Set, Severity,
    Unique, Volume,
};
use crate::expect::form::Form;
use crate::expect::{numbers, shown};
use crate::{ColumnType, Schema};

/// Different values that are kept of a column, at most.
const KEPT: usize = 1000;
/// A set is proposed up to so many values, of at least so many rows each.
const MEMBERS: usize = 20;

/// What a version is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// The version.
    pub version: u64,
    /// Rows in it.
    pub rows: u64,
    /// Its columns, in their order.
    pub columns: Vec<ColumnProfile>,
    /// Expectations that it meets.
    pub proposed: Config,
}

/// What a column is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnProfile {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: String,
    /// Nulls in it.
    pub nulls: u64,
    /// NaN in it.
    pub nans: u64,
    /// The smallest number, of an int or float that is finite; the earliest date or time, as ISO 8601 text.
    pub min: Option<Value>,
    /// The largest, or the latest.
    pub max: Option<Value>,
    /// The fewest and the most characters of a text.
    pub characters: Option<(u32, u32)>,
    /// A regular expression that all of its texts match, when they share a form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Its values, of an int, text or bool that has at most 20.
    pub values: Option<Vec<String>>,
}

/// Counts of a column.
#[derive(Debug, Clone, Default)]
struct Seen {
    nulls: u64,
    nans: u64,
    ints: Option<(i64, i64)>,
    floats: Option<(f64, f64)>,
    /// Dates in days and times in microseconds since the epoch.
    times: Option<(f64, f64)>,
    characters: Option<(u32, u32)>,
    form: Form,
    values: BTreeSet<String>,
    /// There were more values than are kept.
    more: bool,
    /// A value came twice.
    again: bool,
}

/// Counts of all columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sketch {
    rows: u64,
    seen: Vec<Seen>,
}

fn wider<T: PartialOrd + Copy>(a: Option<(T, T)>, b: Option<(T, T)>) -> Option<(T, T)> {
    match (a, b) {
        (Some((low, high)), Some((l, h))) => {
            Some((if l < low { l } else { low }, if h > high { h } else { high }))
        }
        (a, b) => a.or(b),
    }
}

impl Sketch {
    pub(crate) fn new(schema: &Schema) -> Sketch {
        Sketch { rows: 0, seen: vec![Seen::default(); schema.columns.len()] }
    }

    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (seen, column) in self.seen.iter_mut().zip(batch.columns()) {
            seen.add(column);
        }
    }

    pub(crate) fn merge(&mut self, other: Sketch) {
        self.rows += other.rows;
        for (seen, other) in self.seen.iter_mut().zip(other.seen) {
            seen.nulls += other.nulls;
            seen.nans += other.nans;
            seen.ints = wider(seen.ints, other.ints);
            seen.floats = wider(seen.floats, other.floats);
            seen.times = wider(seen.times, other.times);
            seen.characters = wider(seen.characters, other.characters);
            seen.form.merge(other.form);
            seen.more |= other.more;
            seen.again |= other.again;
            for value in other.values {
                seen.value(&value);
            }
        }
    }

    /// Columns that may be keys as far as this knows: whoever proposes them counts first.
    pub(crate) fn keys(&self, schema: &Schema) -> Vec<String> {
        let keyed = |ty: &ColumnType| matches!(ty, ColumnType::Int | ColumnType::Text);
        let candidate = |seen: &Seen| seen.nulls == 0 && !seen.again && self.rows > 1;
        let columns = schema.columns.iter().zip(&self.seen);
        columns.filter(|(c, seen)| keyed(&c.ty) && candidate(seen)).map(|(c, _)| c.name.clone()).collect()
    }
}

impl Seen {
    fn value(&mut self, text: &str) {
        if self.values.contains(text) {
            self.again = true;
        } else if self.values.len() < KEPT {
            self.values.insert(text.to_owned());
        } else {
            self.more = true;
        }
    }

    fn add(&mut self, column: &ArrayRef) {
        self.nulls += column.null_count() as u64;
        match column.data_type() {
            DataType::Int64 => {
                let ints = column.as_primitive::<Int64Type>();
                self.ints = wider(self.ints, min(ints).zip(max(ints)));
            }
            DataType::Float64 => {
                for x in numbers(column).iter().flat_map(|all| all.iter().flatten()) {
                    if x.is_nan() {
                        self.nans += 1;
                    } else {
                        self.floats = wider(self.floats, Some((x + 0.0, x + 0.0)));
                    }
                }
            }
            DataType::Utf8 => {
                for text in column.as_string::<i32>().iter().flatten() {
                    let length = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
                    self.characters = wider(self.characters, Some((length, length)));
                    self.form.add(text);
                }
            }
            DataType::Date32 | DataType::Timestamp(..) => {
                for x in numbers(column).iter().flat_map(|all| all.iter().flatten()) {
                    self.times = wider(self.times, Some((x, x)));
                }
            }
            _ => {}
        }
        let counted = matches!(column.data_type(), DataType::Int64 | DataType::Utf8 | DataType::Boolean);
        // Once there are many and some come again, nothing more is learned from them.
        if counted
            && !(self.more && self.again)
            && let Ok(texts) = cast(column, &DataType::Utf8)
        {
            for text in texts.as_string::<i32>().iter().flatten() {
                self.value(text);
            }
        }
    }
}

/// The profile of a version whose `unique` columns are known to be so, by `now_ms`.
pub(crate) fn propose(
    sketch: &Sketch,
    schema: &Schema,
    version: u64,
    unique: &[String],
    now_ms: i64,
) -> Profile {
    let rows = sketch.rows;
    let mut columns = Vec::with_capacity(schema.columns.len());
    let mut proposed = vec![Expectation {
        schema: Some(SchemaCheck { columns: types(schema), extra: Extra::Allow }),
        ..Expectation::default()
    }];
    if rows > 0 {
        let volume = Some(Volume { min: Some(rows.div_ceil(2)), ..Volume::default() });
        proposed.push(Expectation { volume, severity: Severity::Warn, ..Expectation::default() });
    }
    let newest = newest(sketch, schema);
    for (at, (column, seen)) in schema.columns.iter().zip(&sketch.seen).enumerate() {
        let name = column.name.clone();
        let float = |x: f64| Number::from_f64(x).map(Value::Number);
        let time = |x: f64| Some(Value::String(shown(x, &column.ty)));
        let (min, max) = match (seen.ints, seen.floats, seen.times) {
            (Some((low, high)), ..) => (Some(low.into()), Some(high.into())),
            (_, Some((low, high)), _) => (float(low), float(high)),
            (_, _, Some((low, high))) => (time(low), time(high)),
            _ => (None, None),
        };
        let countable = matches!(column.ty, ColumnType::Int | ColumnType::Text | ColumnType::Bool);
        let few = countable && !seen.more && !seen.values.is_empty() && seen.values.len() <= MEMBERS;
        let profile = ColumnProfile {
            name: name.clone(),
            ty: column.ty.to_string(),
            nulls: seen.nulls,
            nans: seen.nans,
            min,
            max,
            characters: seen.characters,
            pattern: seen.form.regex(),
            values: few.then(|| seen.values.iter().cloned().collect()),
        };
        if rows > 0 {
            proposed.extend(of_column(&profile, rows));
        }
        if let Some((_, micros)) = newest.filter(|(of, _)| *of == at)
            && let Some(max_age) = age(now_ms, micros)
        {
            let freshness = Some(Freshness { column: name.clone(), max_age });
            proposed.push(Expectation { freshness, severity: Severity::Warn, ..Expectation::default() });
        }
        if unique.contains(&name) {
            let unique = Some(Unique { columns: vec![name] });
            proposed.push(Expectation { unique, ..Expectation::default() });
        }
        columns.push(profile);
    }
    Profile { version, rows, columns, proposed: Config { expectations: proposed } }
}

/// The types as a person can declare them; what cannot be declared may be anything.
fn types(schema: &Schema) -> BTreeMap<String, String> {
    let said = |ty: &ColumnType| {
        let text = ty.to_string();
        if text.parse::<ColumnType>().is_ok_and(|parsed| parsed == *ty) { text } else { "any".to_owned() }
    };
    schema.columns.iter().map(|c| (c.name.clone(), said(&c.ty))).collect()
}

fn of_column(profile: &ColumnProfile, rows: u64) -> Vec<Expectation> {
    let column = || profile.name.clone();
    let warn = || Expectation { severity: Severity::Warn, ..Expectation::default() };
    let mut proposed = Vec::new();
    let missing = profile.nulls + profile.nans;
    if missing == 0 {
        let not_null = Some(NotNull { column: column(), max_share: 0.0 });
        proposed.push(Expectation { not_null, ..Expectation::default() });
    } else if missing < rows {
        // Half as many again as there were, in whole percent.
        let share = (missing as f64 / rows as f64 * 150.0).ceil() / 100.0;
        proposed.push(Expectation {
            not_null: Some(NotNull { column: column(), max_share: share.min(1.0) }),
            ..warn()
        });
    }
    if profile.nans == 0
        && let Some((min, max)) = margin(profile)
    {
        let range = Range { column: column(), min: Some(min), max: Some(max) };
        proposed.push(Expectation { range: Some(range), ..warn() });
    }
    let Some((shortest, longest)) = profile.characters else { return proposed };
    match &profile.values {
        Some(values) if rows >= (MEMBERS * values.len()) as u64 => {
            let values = values.iter().cloned().map(Value::String).collect();
            proposed.push(Expectation { set: Some(Set { column: column(), values }), ..warn() });
        }
        _ if profile.pattern.is_some() => {
            let regex = profile.pattern.clone().unwrap_or_default();
            proposed.push(Expectation { pattern: Some(Pattern { column: column(), regex }), ..warn() });
        }
        _ => {
            let length = Length { column: column(), min: Some(shortest), max: Some(longest) };
            proposed.push(Expectation { length: Some(length), ..warn() });
        }
    }
    proposed
}

/// The numbers seen and a tenth of their width on either side; what was never negative is not expected to be.
fn margin(profile: &ColumnProfile) -> Option<(Value, Value)> {
    let (min, max) = (profile.min.as_ref()?, profile.max.as_ref()?);
    if let (Some(low), Some(high)) = (min.as_i64(), max.as_i64()) {
        let more = i64::try_from(low.abs_diff(high).div_ceil(10)).unwrap_or(i64::MAX);
        let floor = if low >= 0 { 0 } else { i64::MIN };
        return Some((low.saturating_sub(more).max(floor).into(), high.saturating_add(more).into()));
    }
    let (low, high) = (min.as_f64()?, max.as_f64()?);
    let number = |x: f64| Number::from_f64(x).map(Value::Number);
    // Rounded outwards to two digits of the margin, so that a person reads it.
    let more = high / 10.0 - low / 10.0;
    let unit = 10_f64.powf(more.log10().floor() - 1.0);
    if !unit.is_normal() {
        return Some((number(low)?, number(high)?));
    }
    let digits = (-unit.log10().round()).clamp(0.0, 17.0) as usize;
    let round = |x: f64, to: fn(f64) -> f64| {
        let tidy = format!("{:.digits$}", to(x / unit) * unit).parse::<f64>();
        tidy.ok().filter(|x| x.is_finite()).unwrap_or(x)
    };
    let floor = if low >= 0.0 { 0.0 } else { f64::MIN };
    let (wide_low, wide_high) = (round(low - more, f64::floor).max(floor), round(high + more, f64::ceil));
    // Rounding never brings a bound within what was seen.
    Some((number(wide_low.min(low))?, number(wide_high.max(high))?))
}

/// The column with the newest time, and that time in microseconds.
fn newest(sketch: &Sketch, schema: &Schema) -> Option<(usize, f64)> {
    let micros = |(at, (column, seen)): (usize, (&crate::Column, &Seen))| {
        let (_, high) = seen.times?;
        Some((at, if column.ty == ColumnType::Date { high * 86_400_000_000.0 } else { high }))
    };
    let times = schema.columns.iter().zip(&sketch.seen).enumerate().filter_map(micros);
    times.max_by(|(_, a), (_, b)| a.total_cmp(b))
}

/// Twice the age of the newest time, in hours or days; none when it lies in the future or so far back that nobody waits for the next.
fn age(now_ms: i64, newest_micros: f64) -> Option<String> {
    let hours = (now_ms as f64 - newest_micros / 1000.0) / 3_600_000.0;
    match (hours * 2.0).ceil() {
        _ if hours < 0.0 => None,
        twice if twice <= 48.0 => Some(format!("{}h", twice.max(1.0))),
        twice if twice <= 24.0 * 60.0 => Some(format!("{}d", (twice / 24.0).ceil())),
        _ => None,
    }
}

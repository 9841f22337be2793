//! A column of the online store: cells of one type that are written in place.
//!
//! Numbers, times and flags take eight bytes a cell, decimals sixteen, texts four and the text itself once for all cells that
//! hold it. What has no such form (lists, structs, binary) is kept as an array of one value.
//!
//! **Invariant.** [`Cells::order`] is the order of `features::order`: the same row wins here and in a training set.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray, UInt32Array, new_null_array,
};
use arrow::compute::{concat, take};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use serde_json::Value as Json;

use crate::dataset::cell;
use crate::features::order;
use crate::{ColumnType, features::online::Value};

/// See the module.
pub(super) struct Cells {
    ty: ColumnType,
    /// One bit a cell: whether it is null.
    nulls: Vec<u64>,
    held: Held,
    len: usize,
}

enum Held {
    /// Integers, days, microseconds, flags; floats as their bits.
    Long(Vec<i64>),
    Wide(Vec<i128>),
    Text(Vec<u32>, Texts),
    Other(Vec<ArrayRef>),
}

impl Cells {
    pub(super) fn new(ty: &ColumnType) -> Cells {
        let held = match ty {
            ColumnType::Bool
            | ColumnType::Int
            | ColumnType::Float
            | ColumnType::Date
            | ColumnType::Timestamp
            | ColumnType::DateTime => Held::Long(Vec::new()),
            ColumnType::Decimal(..) => Held::Wide(Vec::new()),
            ColumnType::Text => Held::Text(Vec::new(), Texts::default()),
            ColumnType::Binary | ColumnType::List(_) | ColumnType::Struct(_) => Held::Other(Vec::new()),
        };
        Cells { ty: ty.clone(), nulls: Vec::new(), held, len: 0 }
    }

    fn is_null(&self, at: usize) -> bool {
        self.nulls.get(at / 64).is_none_or(|word| word >> (at % 64) & 1 == 1)
    }

    fn mark(&mut self, at: usize, null: bool) {
        if let Some(word) = self.nulls.get_mut(at / 64) {
            let bit = 1u64 << (at % 64);
            *word = if null { *word | bit } else { *word & !bit };
        }
    }

    /// Puts a value of an array, which is of this column's type, into the cell; the cell behind the last is a new one.
    pub(super) fn put(&mut self, at: usize, from: &ArrayRef, row: usize) -> Result<(), ArrowError> {
        let new = at == self.len;
        if new {
            self.len += 1;
            if self.nulls.len() * 64 < self.len {
                self.nulls.push(0);
            }
        }
        let null = from.is_null(row);
        self.mark(at, null);
        match &mut self.held {
            Held::Long(cells) => set(cells, at, if null { 0 } else { long(from, row) }),
            Held::Wide(cells) => {
                set(cells, at, if null { 0 } else { from.as_primitive::<Decimal128Type>().value(row) });
            }
            Held::Text(cells, texts) => {
                let id = if null { NO_TEXT } else { texts.take(from.as_string::<i32>().value(row)) };
                if let (false, Some(before)) = (new, cells.get(at)) {
                    texts.give_back(*before);
                }
                set(cells, at, id);
            }
            Held::Other(cells) => {
                // A copy, so that the batch it came in can go.
                let one = UInt32Array::from(vec![u32::try_from(row).unwrap_or_default()]);
                set(cells, at, take(from, &one, None)?);
            }
        }
        Ok(())
    }

    /// A value of an array beside that of a cell.
    pub(super) fn order(&self, from: &ArrayRef, row: usize, at: usize) -> Ordering {
        match (from.is_null(row), self.is_null(at)) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        match &self.held {
            Held::Long(cells) => {
                let (a, b) = (long(from, row), cells.get(at).copied().unwrap_or_default());
                if self.ty == ColumnType::Float { order::floats(float(a), float(b)) } else { a.cmp(&b) }
            }
            Held::Wide(cells) => {
                from.as_primitive::<Decimal128Type>().value(row).cmp(&cells.get(at).copied().unwrap_or(0))
            }
            Held::Text(cells, texts) => {
                let held = cells.get(at).and_then(|id| texts.get(*id));
                from.as_string::<i32>().value(row).cmp(held.map_or("", |text| &**text))
            }
            Held::Other(cells) => cells.get(at).map_or(Ordering::Greater, |held| {
                order::rows(std::slice::from_ref(from), row, std::slice::from_ref(held), 0)
            }),
        }
    }

    /// What a cell holds.
    pub(super) fn value(&self, at: usize) -> Value {
        if self.is_null(at) {
            return Value::Null;
        }
        match (&self.held, &self.ty) {
            (Held::Long(cells), ty) => {
                let x = cells.get(at).copied().unwrap_or_default();
                match ty {
                    ColumnType::Int => Value::Int(x),
                    ColumnType::Float => Value::Float(float(x)),
                    ColumnType::Bool => Value::Bool(x != 0),
                    _ => self.other(at),
                }
            }
            (Held::Text(cells, texts), _) => match cells.get(at).and_then(|id| texts.get(*id)) {
                Some(text) => Value::Text(Arc::clone(text)),
                None => Value::Null,
            },
            _ => self.other(at),
        }
    }

    /// A value that JSON has no type of its own for.
    fn other(&self, at: usize) -> Value {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        match self.array(&[at]) {
            Ok(array) => match cell(&array, 0) {
                Json::Null => Value::Null,
                Json::String(text) => Value::Text(text.into()),
                json => Value::Json(json),
            },
            Err(_) => Value::Null,
        }
    }

    /// The cells at these places, as an array.
    pub(super) fn array(&self, places: &[u32]) -> Result<ArrayRef, ArrowError> {
        let null = |at: u32| self.is_null(at as usize);
        Ok(match &self.held {
            Held::Long(cells) => {
                let each = places.iter().map(|at| (!null(*at)).then(|| cells.get(*at as usize).copied())?);
                match self.ty.to_arrow() {
                    DataType::Boolean => Arc::new(each.map(|x| x.map(|x| x != 0)).collect::<BooleanArray>()),
                    DataType::Float64 => Arc::new(each.map(|x| x.map(float)).collect::<Float64Array>()),
                    DataType::Date32 => {
                        Arc::new(each.map(|x| x.and_then(|x| i32::try_from(x).ok())).collect::<Date32Array>())
                    }
                    ty @ DataType::Timestamp(..) => {
                        Arc::new(each.collect::<TimestampMicrosecondArray>().with_data_type(ty))
                    }
                    _ => Arc::new(each.collect::<Int64Array>()),
                }
            }
            Held::Wide(cells) => {
                let each = places.iter().map(|at| (!null(*at)).then(|| cells.get(*at as usize).copied())?);
                Arc::new(each.collect::<Decimal128Array>().with_data_type(self.ty.to_arrow()))
            }
            Held::Text(cells, texts) => {
                let each = places.iter().map(|at| texts.get(*cells.get(*at as usize)?).map(|text| &**text));
                Arc::new(each.collect::<StringArray>())
            }
            Held::Other(cells) => {
                let each: Vec<&dyn Array> =
                    places.iter().filter_map(|at| cells.get(*at as usize)).map(AsRef::as_ref).collect();
                if each.is_empty() { new_null_array(&self.ty.to_arrow(), 0) } else { concat(&each)? }
            }
        })
    }
}

fn set<T>(cells: &mut Vec<T>, at: usize, value: T) {
    match cells.get_mut(at) {
        Some(cell) => *cell = value,
        None => cells.push(value),
    }
}

fn long(from: &ArrayRef, row: usize) -> i64 {
    match from.data_type() {
        DataType::Boolean => i64::from(from.as_boolean().value(row)),
        DataType::Int64 => from.as_primitive::<Int64Type>().value(row),
        DataType::Float64 => from.as_primitive::<Float64Type>().value(row).to_bits().cast_signed(),
        DataType::Date32 => i64::from(from.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(..) => from.as_primitive::<TimestampMicrosecondType>().value(row),
        _ => 0,
    }
}

fn float(bits: i64) -> f64 {
    f64::from_bits(bits.cast_unsigned())
}

const NO_TEXT: u32 = u32::MAX;

/// Texts, each once, with how many cells hold it.
#[derive(Default)]
struct Texts {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<(Arc<str>, u32)>,
    free: Vec<u32>,
}

impl Texts {
    fn get(&self, id: u32) -> Option<&Arc<str>> {
        self.texts.get(id as usize).map(|(text, _)| text)
    }

    fn take(&mut self, text: &str) -> u32 {
        if let Some(id) = self.numbers.get(text).copied() {
            if let Some((_, held)) = self.texts.get_mut(id as usize) {
                *held += 1;
            }
            return id;
        }
        let text: Arc<str> = text.into();
        let id = match self.free.pop() {
            Some(id) => {
                set(&mut self.texts, id as usize, (Arc::clone(&text), 1));
                id
            }
            None => {
                self.texts.push((Arc::clone(&text), 1));
                u32::try_from(self.texts.len() - 1).unwrap_or(NO_TEXT)
            }
        };
        self.numbers.insert(text, id);
        id
    }

    fn give_back(&mut self, id: u32) {
        let Some((text, held)) = self.texts.get_mut(id as usize) else { return };
        *held = held.saturating_sub(1);
        if *held == 0 {
            let text = std::mem::replace(text, "".into());
            self.numbers.remove(&*text);
            self.free.push(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arrays(rows: &[(Option<f64>, Option<String>, Option<i128>)]) -> Vec<ArrayRef> {
        vec![
            Arc::new(rows.iter().map(|r| r.0).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|r| r.1.as_deref()).collect::<StringArray>()),
            Arc::new(
                rows.iter()
                    .map(|r| r.2)
                    .collect::<Decimal128Array>()
                    .with_data_type(ColumnType::Decimal(9, 2).to_arrow()),
            ),
        ]
    }

    const TYPES: [ColumnType; 3] = [ColumnType::Float, ColumnType::Text, ColumnType::Decimal(9, 2)];

    fn row() -> impl Strategy<Value = (Option<f64>, Option<String>, Option<i128>)> {
        let float = prop_oneof![Just(None), Just(Some(f64::NAN)), (-2i8..2).prop_map(|x| Some(x.into()))];
        (float, proptest::option::of("[ab]{0,2}"), proptest::option::of(-3i128..3))
    }

    proptest! {
        #[test]
        fn cells_hold_what_was_put_last_and_are_ordered_as_rows_are(
            puts in proptest::collection::vec((0usize..4, row()), 1..40),
        ) {
            let rows: Vec<_> = puts.iter().map(|(_, row)| row.clone()).collect();
            let arrays = arrays(&rows);
            for (array, ty) in arrays.iter().zip(&TYPES) {
                let mut cells = Cells::new(ty);
                let mut last: Vec<usize> = Vec::new();
                for (i, (at, _)) in puts.iter().enumerate() {
                    let at = (*at).min(last.len());
                    cells.put(at, array, i).unwrap();
                    set(&mut last, at, i);
                    for (at, held) in last.iter().enumerate() {
                        let expected = order::rows(std::slice::from_ref(array), i, std::slice::from_ref(array), *held);
                        prop_assert_eq!(cells.order(array, i, at), expected);
                    }
                }
                let places: Vec<u32> = (0..u32::try_from(last.len()).unwrap()).collect();
                let back = cells.array(&places).unwrap();
                for (at, held) in last.iter().enumerate() {
                    let same = order::rows(std::slice::from_ref(&back), at, std::slice::from_ref(array), *held);
                    prop_assert_eq!(same, Ordering::Equal);
                }
                if let Held::Text(cells, texts) = &cells.held {
                    let used: std::collections::BTreeSet<_> = cells.iter().filter(|id| **id != NO_TEXT).collect();
                    prop_assert_eq!(texts.numbers.len(), used.len());
                }
            }
        }
    }
}

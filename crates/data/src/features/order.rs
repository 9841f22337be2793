//! Which of two rows is the greater: the last rule between rows of equal times.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef};

use crate::canonical::Cells;

/// Compares two rows column by column: null below everything, numbers by size and NaN the greatest, -0.0 as 0.0, texts and
/// binary by their bytes, lists and structs part by part. Total, and equal only for rows of equal content.
pub(super) fn rows(a: &[ArrayRef], i: usize, b: &[ArrayRef], j: usize) -> Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = cells(a, i, b, j);
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

fn cells(a: &ArrayRef, i: usize, b: &ArrayRef, j: usize) -> Ordering {
    match (a.is_null(i), b.is_null(j)) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Less,
        (false, true) => return Ordering::Greater,
        (false, false) => {}
    }
    match (Cells::of(a), Cells::of(b)) {
        (Cells::Bool(a), Cells::Bool(b)) => a.value(i).cmp(&b.value(j)),
        (Cells::Int(a), Cells::Int(b)) => a.value(i).cmp(&b.value(j)),
        (Cells::Float(a), Cells::Float(b)) => floats(a.value(i), b.value(j)),
        (Cells::Decimal(a), Cells::Decimal(b)) => a.value(i).cmp(&b.value(j)),
        (Cells::Text(a), Cells::Text(b)) => a.value(i).cmp(b.value(j)),
        (Cells::Binary(a), Cells::Binary(b)) => a.value(i).cmp(b.value(j)),
        (Cells::Date(a), Cells::Date(b)) => a.value(i).cmp(&b.value(j)),
        (Cells::Time(a), Cells::Time(b)) => a.value(i).cmp(&b.value(j)),
        (Cells::List(a), Cells::List(b)) => {
            let (a, b) = (a.value(i), b.value(j));
            let parts = (0..a.len().min(b.len())).map(|at| cells(&a, at, &b, at));
            parts.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
        }
        (Cells::Struct(a, _), Cells::Struct(b, _)) => rows(a.columns(), i, b.columns(), j),
        _ => Ordering::Equal,
    }
}

pub(super) fn floats(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
        (a, b) => a.cmp(&b),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    type Row = (Option<f64>, Option<String>);

    fn columns(rows: &[Row]) -> Vec<ArrayRef> {
        vec![
            Arc::new(rows.iter().map(|r| r.0).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|r| r.1.as_deref()).collect::<StringArray>()),
        ]
    }

    fn row() -> impl Strategy<Value = Row> {
        let float = prop_oneof![
            Just(None),
            Just(Some(f64::NAN)),
            Just(Some(-0.0)),
            (-2i8..2).prop_map(|x| Some(x.into()))
        ];
        (float, proptest::option::of("[ab]{0,2}"))
    }

    proptest! {
        #[test]
        fn it_is_a_total_order(all in proptest::collection::vec(row(), 3)) {
            let columns = columns(&all);
            let order = |i, j| rows(&columns, i, &columns, j);
            for i in 0..3 {
                prop_assert_eq!(order(i, i), Ordering::Equal);
                for j in 0..3 {
                    prop_assert_eq!(order(i, j), order(j, i).reverse());
                }
            }
            if order(0, 1) != Ordering::Greater && order(1, 2) != Ordering::Greater {
                prop_assert_ne!(order(0, 2), Ordering::Greater);
            }
        }
    }

    #[test]
    fn null_is_the_least_and_nan_the_greatest() {
        let all = [(None, None), (Some(-1.0), None), (Some(0.0), None), (Some(f64::NAN), None)];
        let columns = columns(&all);
        for i in 1..4 {
            assert_eq!(rows(&columns, i, &columns, i - 1), Ordering::Greater);
        }
    }
}

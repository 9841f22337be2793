//! Sorting of floating-point numbers, and which of them are numbers at all.

/// The largest magnitude that counts as a number: the square of a larger one has no room, and what is so large in a
/// table is a mark for a missing value.
const LARGEST: f64 = 1e150;

/// Whether a value is a number; NaN, infinities and marks like the largest float are not.
pub(crate) fn is_number(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// In the order of [`f64::total_cmp`], by whole numbers that have the same order: twice as quick.
pub(crate) fn sort(values: &mut [f64]) {
    let mut keys: Vec<u64> = values.iter().map(|v| key(v.to_bits())).collect();
    keys.sort_unstable();
    values.iter_mut().zip(keys).for_each(|(v, k)| *v = f64::from_bits(bits(k)));
}

/// Negative ones turned over, and below the others.
fn key(bits: u64) -> u64 {
    bits ^ (((bits as i64 >> 63) as u64) | (1 << 63))
}

fn bits(key: u64) -> u64 {
    key ^ (((!key as i64 >> 63) as u64) | (1 << 63))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn sorting_by_keys_is_sorting(mut values in proptest::collection::vec(proptest::num::f64::ANY, 0..200)) {
            let mut sorted = values.clone();
            sort(&mut values);
            sorted.sort_by(f64::total_cmp);
            let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            proptest::prop_assert_eq!(bits(&values), bits(&sorted));
        }
    }
}

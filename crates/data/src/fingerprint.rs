//! The name of a version: a hash of its data in which the order of rows, of columns and of files does not count.
//!
//! Each row is encoded canonically and hashed with BLAKE3 to 64 bytes, taken as eight 64-bit numbers; a table's [`Sum`] adds
//! the rows up, each number modulo 2⁶⁴. So a sum is updated by what an append adds or a merge replaces, without reading the
//! rest, and two halves add up to the whole. The name hashes the sum together with the schema and the count of rows.
//! Sets hashed by adding up: Bellare and Micciancio, "A new paradigm for collision-free hashing: incrementality at reduced cost"
//! (EUROCRYPT '97); multisets: Clarke et al., "Incremental multiset hash functions" (ASIACRYPT 2003).
//!
//! **How far a name can be trusted.** Against accident: two different tables whose rows differ in multiplicity by multiples
//! of 2ᵗ share a sum with probability 2^-8(64-t): with less than 2³² equal rows, below 2^-256. (That is why the numbers
//! are 64 bits wide: LtHash's sixteen would let 65,536 copies of any row vanish.) Against an attacker who chooses rows and
//! may repeat them, no sum of this width holds: lattice reduction finds two tables with one sum. So a name identifies, and
//! never proves: before an `add` is skipped because its result is what the dataset already holds, both are added up once more
//! under a random key that nobody could have known ([`Key`]), which is the kind of sum that Clarke et al. prove.
//!
//! How a row is encoded says `canonical`.

use std::fmt;

use arrow::array::RecordBatch;

use crate::Schema;
use crate::canonical::Cells;

/// The hash of a multiset of rows; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum([u64; 8]);

/// How rows are hashed: without a key for names, with a random one to compare.
#[derive(Clone, Copy, Default)]
pub(crate) struct Key(Option<[u8; 32]>);

impl Key {
    /// A key that nobody knew before; `None` when the system has no randomness to give.
    pub(crate) fn random() -> Option<Key> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).ok()?;
        Some(Key(Some(key)))
    }

    fn hasher(self) -> blake3::Hasher {
        match self.0 {
            Some(key) => blake3::Hasher::new_keyed(&key),
            None => blake3::Hasher::new(),
        }
    }
}

impl Sum {
    pub(crate) fn plus(self, other: Sum) -> Sum {
        Sum(std::array::from_fn(|i| {
            let (a, b) = (self.0.get(i), other.0.get(i));
            a.copied().unwrap_or(0).wrapping_add(b.copied().unwrap_or(0))
        }))
    }

    fn add_row(&mut self, encoded: &[u8], hasher: &mut blake3::Hasher) {
        let mut wide = [0u8; 64];
        hasher.reset();
        hasher.update(encoded).finalize_xof().fill(&mut wide);
        for (number, bytes) in self.0.iter_mut().zip(wide.as_chunks::<8>().0) {
            *number = number.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }

    /// As 128 hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|number| format!("{:016x}", number.swap_bytes())).collect()
    }

    pub(crate) fn from_hex(text: &str) -> Option<Sum> {
        if text.len() != 128 || !text.is_ascii() {
            return None;
        }
        let mut sum = Sum::default();
        for (i, number) in sum.0.iter_mut().enumerate() {
            *number = u64::from_str_radix(text.get(i * 16..i * 16 + 16)?, 16).ok()?.swap_bytes();
        }
        Some(sum)
    }
}

/// The sum and the count of what went by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Fingerprint {
    pub(crate) sum: Sum,
    pub(crate) rows: u64,
}

impl Fingerprint {
    pub(crate) fn plus(self, other: Fingerprint) -> Fingerprint {
        Fingerprint { sum: self.sum.plus(other.sum), rows: self.rows + other.rows }
    }

    /// The name of a version that holds these rows under this schema.
    pub(crate) fn name(&self, schema: &Schema) -> Name {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"forebay dataset version, encoding 1\n");
        hasher.update(schema_hash(schema).as_bytes());
        hasher.update(&self.rows.to_le_bytes());
        hasher.update(self.sum.to_hex().as_bytes());
        Name(hasher.finalize().to_hex().to_string())
    }
}

/// The content name of a version: 64 hexadecimal digits. Equal data under an equal schema has an equal name, in every dataset.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name in full.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits: enough to tell versions apart by eye, and to ask for one.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }

    pub(crate) fn parse(text: &str) -> Option<Name> {
        let hex = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Name(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash of the columns and their types, whatever their order: 64 hexadecimal digits.
pub(crate) fn schema_hash(schema: &Schema) -> String {
    let mut columns: Vec<_> = schema.columns.iter().collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let mut hasher = blake3::Hasher::new();
    for column in columns {
        let ty = column.ty.to_string();
        for part in [column.name.as_str(), ty.as_str()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Adds up batches of one table.
pub(crate) struct Adder {
    hasher: blake3::Hasher,
    total: Fingerprint,
    row: Vec<u8>,
}

impl Adder {
    pub(crate) fn new(key: Key) -> Adder {
        Adder { hasher: key.hasher(), total: Fingerprint::default(), row: Vec::with_capacity(256) }
    }

    /// Adds a batch whose columns have the types of [`crate::ColumnType::to_arrow`].
    pub(crate) fn add(&mut self, batch: &RecordBatch) {
        let schema = batch.schema();
        let mut columns: Vec<_> = schema.fields().iter().zip(batch.columns()).collect();
        columns.sort_by(|(a, _), (b, _)| a.name().cmp(b.name()));
        let cells: Vec<Cells<'_>> = columns.into_iter().map(|(_, array)| Cells::of(array)).collect();
        for row in 0..batch.num_rows() {
            self.row.clear();
            for column in &cells {
                column.encode(row, &mut self.row);
            }
            self.total.sum.add_row(&self.row, &mut self.hasher);
        }
        self.total.rows += batch.num_rows() as u64;
    }

    pub(crate) fn total(&self) -> Fingerprint {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;
    use crate::{Column, ColumnType};

    type Row = (Option<i64>, Option<f64>, Option<String>);

    fn schema() -> Schema {
        let column = |name: &str, ty| Column { name: name.into(), ty };
        Schema {
            columns: vec![
                column("b", ColumnType::Int),
                column("a", ColumnType::Float),
                column("c", ColumnType::Text),
            ],
        }
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|r| r.0).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|r| r.1).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|r| r.2.as_deref()).collect::<StringArray>()),
        ];
        RecordBatch::try_new(schema().to_arrow(), columns).unwrap()
    }

    fn fingerprint(parts: &[&[Row]]) -> Fingerprint {
        let mut adder = Adder::new(Key::default());
        for part in parts {
            adder.add(&batch(part));
        }
        adder.total()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (any::<Option<i64>>(), any::<Option<f64>>(), proptest::option::of("[a-c]{0,2}"));
        proptest::collection::vec(row, 0..12)
    }

    proptest! {
        #[test]
        fn neither_the_order_of_rows_nor_their_split_over_files_counts(rows in rows(), at in any::<prop::sample::Index>(), seed in any::<u64>()) {
            let mut shuffled = rows.clone();
            let n = shuffled.len();
            let mut state = seed;
            for i in (1..n).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                shuffled.swap(i, (state >> 33) as usize % (i + 1));
            }
            let (left, right) = shuffled.split_at(if n == 0 { 0 } else { at.index(n) });
            prop_assert_eq!(fingerprint(&[&rows]), fingerprint(&[left, right]));
            prop_assert_eq!(fingerprint(&[&rows]), fingerprint(&[left]).plus(fingerprint(&[right])));
        }

        #[test]
        fn one_more_row_gives_another_name(rows in rows(), extra in any::<i64>()) {
            let mut more = rows.clone();
            more.push((Some(extra), None, None));
            prop_assert_ne!(fingerprint(&[&rows]).name(&schema()), fingerprint(&[&more]).name(&schema()));
        }

        #[test]
        fn a_sum_reads_back_as_it_is_printed(rows in rows()) {
            let sum = fingerprint(&[&rows]).sum;
            prop_assert_eq!(Sum::from_hex(&sum.to_hex()), Some(sum));
        }
    }

    #[test]
    fn a_name_never_changes_from_one_release_to_the_next() {
        let rows = [(Some(7), Some(0.5), Some("x".to_owned())), (None, Some(f64::NAN), None)];
        assert_eq!(
            fingerprint(&[&rows]).name(&schema()).as_str(),
            "539e00e9156e627163df4cb339bff895532c11fcf8a748c9e157098cfc3d1c3a"
        );
    }

    #[test]
    fn the_order_of_columns_does_not_count() {
        let a = batch(&[(Some(1), Some(2.0), Some("x".into()))]);
        let b = a.project(&[2, 0, 1]).unwrap();
        let sum = |batch: &RecordBatch| {
            let mut adder = Adder::new(Key::default());
            adder.add(batch);
            adder.total()
        };
        assert_eq!(sum(&a), sum(&b));
        let (a, b) = (Schema::from_arrow(&a.schema()).unwrap(), Schema::from_arrow(&b.schema()).unwrap());
        assert_eq!(schema_hash(&a), schema_hash(&b));
    }

    #[test]
    fn minus_zero_is_zero_and_one_nan_is_another() {
        let other_nan = f64::from_bits(f64::NAN.to_bits() | 1);
        let row = |x| vec![(None, Some(x), None)];
        assert_eq!(fingerprint(&[&row(0.0)]), fingerprint(&[&row(-0.0)]));
        assert_eq!(fingerprint(&[&row(f64::NAN)]), fingerprint(&[&row(other_nan)]));
        assert_ne!(fingerprint(&[&row(0.0)]), fingerprint(&[&[(None, None, None)]]));
    }

    #[test]
    fn many_equal_rows_do_not_cancel_out() {
        let many = |s: &str| vec![(None, None, Some(s.to_owned())); 65_536];
        assert_ne!(fingerprint(&[&many("x")]), fingerprint(&[&many("y")]));
    }

    #[test]
    fn under_a_random_key_equal_rows_still_add_up_equally() {
        let key = Key::random().unwrap();
        let sum = |rows: &[Row]| {
            let mut adder = Adder::new(key);
            adder.add(&batch(rows));
            adder.total()
        };
        let (x, y) = ((Some(1), None, None), (Some(2), None, None));
        assert_eq!(sum(&[x.clone(), y.clone()]), sum(&[y.clone(), x.clone()]));
        assert_ne!(sum(&[x.clone(), x.clone()]), sum(&[x, y]));
    }
}

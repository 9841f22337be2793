//! A whole table: a profile of its columns in one pass, and the comparison of a window's profile with that of the
//! reference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::column::{NumericReference, Side, compare_categories};
use super::verdict::{Measured, Subject};
use crate::Error;
use crate::sketch::{CategorySketch, NumericSketch, Vocabulary};

/// A column in bounded memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnSketch {
    /// Of numbers.
    Numeric(NumericSketch),
    /// Of categories.
    Category(CategorySketch),
}

/// What is kept of a table: of a training set with its model's version, of a window until it is compared. Merged, it is
/// that of both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    columns: BTreeMap<String, ColumnSketch>,
}

impl Profile {
    /// Takes a batch of a column of numbers in; NaN is missing.
    ///
    /// # Errors
    /// When the column holds categories.
    pub fn numbers(&mut self, column: &str, batch: &[f64]) -> Result<(), Error> {
        match self.column(column, || ColumnSketch::Numeric(NumericSketch::default())) {
            ColumnSketch::Numeric(sketch) => sketch.extend(batch),
            ColumnSketch::Category(_) => return Err(KINDS),
        }
        Ok(())
    }

    /// Takes a batch of a column of categories in; `None` is missing.
    ///
    /// # Errors
    /// When the column holds numbers.
    pub fn categories<'a>(
        &mut self,
        column: &str,
        batch: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<(), Error> {
        match self.column(column, || ColumnSketch::Category(CategorySketch::default())) {
            ColumnSketch::Category(sketch) => sketch.extend(batch),
            ColumnSketch::Numeric(_) => return Err(KINDS),
        }
        Ok(())
    }

    fn column(&mut self, name: &str, new: impl FnOnce() -> ColumnSketch) -> &mut ColumnSketch {
        self.columns.entry(name.to_owned()).or_insert_with(new)
    }

    /// Takes another profile in.
    ///
    /// # Errors
    /// When a column is of another kind, or its sketch of another size: what came before it is in then.
    pub fn merge(&mut self, other: &Profile) -> Result<(), Error> {
        for (name, theirs) in &other.columns {
            match (self.columns.get_mut(name), theirs) {
                (None, theirs) => drop(self.columns.insert(name.clone(), theirs.clone())),
                (Some(ColumnSketch::Numeric(a)), ColumnSketch::Numeric(b)) => a.merge(b)?,
                (Some(ColumnSketch::Category(a)), ColumnSketch::Category(b)) => a.merge(b)?,
                (Some(_), _) => return Err(KINDS),
            }
        }
        Ok(())
    }

    /// A column by its name.
    pub fn column_named(&self, name: &str) -> Option<&ColumnSketch> {
        self.columns.get(name)
    }

    /// The columns by name.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &ColumnSketch)> {
        self.columns.iter().map(|(name, sketch)| (name.as_str(), sketch))
    }
}

const KINDS: Error = Error::Unlike { what: "two columns", why: "one holds numbers and one categories" };

/// One column of a reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ColumnReference {
    /// Of numbers.
    Numeric(NumericReference),
    /// Of categories: the bins, and how many of the reference are in each.
    Category(Vocabulary, Vec<u64>),
    /// Nothing to compare with: the column held no value.
    Empty,
}

/// The reference of a table: made once, kept with the model's version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    columns: BTreeMap<String, ColumnReference>,
}

/// How the columns of a window differ from those of the reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaChange {
    /// Columns that are not there any more.
    pub gone: Vec<String>,
    /// Columns that were not there.
    pub new: Vec<String>,
    /// Columns that hold another kind of values.
    pub other_kind: Vec<String>,
    /// Columns that hold nothing, on one side or on both.
    pub empty: Vec<String>,
}

impl SchemaChange {
    /// Whether nothing has changed.
    pub fn is_none(&self) -> bool {
        *self == SchemaChange::default()
    }
}

impl Reference {
    /// From a profile.
    pub fn new(profile: Profile) -> Self {
        let of = |sketch| match sketch {
            ColumnSketch::Numeric(sketch) => {
                NumericReference::new(sketch).map_or(ColumnReference::Empty, ColumnReference::Numeric)
            }
            ColumnSketch::Category(sketch) if sketch.count() == 0 => ColumnReference::Empty,
            ColumnSketch::Category(sketch) => {
                let bins = sketch.vocabulary();
                let counts = bins.of_sketch(&sketch);
                ColumnReference::Category(bins, counts)
            }
        };
        Reference { columns: profile.columns.into_iter().map(|(name, sketch)| (name, of(sketch))).collect() }
    }

    /// Whether a column is there and held values.
    pub fn holds(&self, column: &str) -> bool {
        !matches!(self.columns.get(column), None | Some(ColumnReference::Empty))
    }

    pub(crate) fn of(&self, column: &str) -> Option<&ColumnReference> {
        self.columns.get(column)
    }

    /// Compares a window, or a slice of it: what is to be judged ([`judge`](super::judge)) together with the rest of
    /// its family, and what cannot be compared.
    ///
    /// # Errors
    /// Never for profiles that were made by this version.
    pub fn compare(
        &self,
        window: &Profile,
        slice: Option<&str>,
    ) -> Result<(Vec<(Subject, Measured)>, SchemaChange), Error> {
        let (mut found, mut schema) = (Vec::new(), SchemaChange::default());
        for (name, reference) in &self.columns {
            let subject = || Subject { feature: name.clone(), slice: slice.map(ToOwned::to_owned) };
            match (reference, window.columns.get(name)) {
                (_, None) => schema.gone.push(name.clone()),
                (ColumnReference::Empty, Some(_)) => schema.empty.push(name.clone()),
                (ColumnReference::Numeric(_), Some(ColumnSketch::Numeric(sketch))) if sketch.count() == 0 => {
                    schema.empty.push(name.clone());
                }
                (ColumnReference::Numeric(reference), Some(ColumnSketch::Numeric(sketch))) => {
                    found.push((subject(), Measured::Numeric(reference.compare(Side::Sketch(sketch))?)));
                }
                (ColumnReference::Category(bins, counts), Some(ColumnSketch::Category(sketch))) => {
                    if sketch.count() + sketch.missing() == 0 {
                        schema.empty.push(name.clone());
                    } else {
                        let drift = compare_categories(counts, &bins.of_sketch(sketch))?;
                        found.push((subject(), Measured::Category(drift)));
                    }
                }
                (_, Some(_)) => schema.other_kind.push(name.clone()),
            }
        }
        schema.new =
            window.columns.keys().filter(|name| !self.columns.contains_key(*name)).cloned().collect();
        Ok((found, schema))
    }
}

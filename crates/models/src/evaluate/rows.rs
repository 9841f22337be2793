//! What is evaluated: what was predicted of some rows, what was true, what a row weighs, and what it is like.
//!
//! Invariants: columns are of one length, which is not zero; every number is finite, weights are not negative and one is positive;
//! every class has its number below the number of classes.

use super::Error;
use super::metrics::Weights;

/// What is predicted, and was true.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// One of two: a label and the score of being positive, a probability or any number.
    Binary {
        /// Whether it is positive.
        labels: Vec<bool>,
        /// The higher, the likelier positive.
        scores: Vec<f64>,
    },
    /// One of several: the class and the probability of each.
    Multiclass {
        /// The names of the classes.
        classes: Vec<String>,
        /// The number of each row's class.
        labels: Vec<u32>,
        /// As many for each row as there are classes.
        probabilities: Vec<f64>,
    },
    /// A number.
    Regression {
        /// What it was.
        truth: Vec<f64>,
        /// What was predicted.
        predicted: Vec<f64>,
    },
}

impl Truth {
    fn len(&self) -> usize {
        match self {
            Truth::Binary { labels, .. } => labels.len(),
            Truth::Multiclass { labels, .. } => labels.len(),
            Truth::Regression { truth, .. } => truth.len(),
        }
    }

    /// Its name.
    pub fn task(&self) -> &'static str {
        match self {
            Truth::Binary { .. } => "binary classification",
            Truth::Multiclass { .. } => "multiclass classification",
            Truth::Regression { .. } => "regression",
        }
    }
}

/// A column that rows are told apart by: its values, and the number of each row's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub(super) name: String,
    pub(super) values: Vec<String>,
    pub(super) codes: Vec<u32>,
}

impl Key {
    /// A column of that name, of one text a row; what is missing has a text of its own.
    pub fn new<'a>(name: &str, texts: impl IntoIterator<Item = Option<&'a str>>) -> Key {
        let mut key = Key { name: name.to_owned(), values: Vec::new(), codes: Vec::new() };
        let mut known = std::collections::HashMap::new();
        for text in texts {
            let text = text.unwrap_or("(missing)");
            let code = *known.entry(text).or_insert_with(|| {
                key.values.push(text.to_owned());
                u32::try_from(key.values.len() - 1).unwrap_or(u32::MAX)
            });
            key.codes.push(code);
        }
        key
    }

    /// Each value with its rows, in the order of the values.
    pub(crate) fn parts(&self) -> Vec<(&str, Vec<u32>)> {
        let mut parts: Vec<(&str, Vec<u32>)> = self.values.iter().map(|v| (v.as_str(), Vec::new())).collect();
        for (row, code) in self.codes.iter().enumerate() {
            if let Some((_, rows)) = parts.get_mut(*code as usize) {
                rows.push(u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
        parts.retain(|(_, rows)| !rows.is_empty());
        parts.sort_unstable_by(|a, b| a.0.cmp(b.0));
        parts
    }
}

/// Rows that can be evaluated.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    truth: Truth,
    weights: Option<Vec<f64>>,
    keys: Vec<Key>,
    probable: bool,
}

impl Rows {
    /// Rows of equal weight, without slices.
    ///
    /// # Errors
    /// They do not keep the invariants of this module.
    pub fn new(truth: Truth) -> Result<Rows, Error> {
        let rows = truth.len();
        if rows == 0 {
            return Err(Error::Empty);
        }
        if u32::try_from(rows).is_err() {
            return Err(Error::TooMany(rows));
        }
        let probable = match &truth {
            Truth::Binary { scores, .. } => {
                numbers("score", scores, rows)?;
                scores.iter().all(|s| (0.0..=1.0).contains(s))
            }
            Truth::Multiclass { classes, labels, probabilities } => {
                numbers("probabilities", probabilities, rows * classes.len())?;
                let known = |class: &u32| (*class as usize) < classes.len();
                if let Some(row) = labels.iter().position(|class| !known(class)) {
                    let why = "is a class that the model does not know";
                    return Err(Error::Value { column: "label".to_owned(), row, why });
                }
                probabilities.iter().all(|p| (0.0..=1.0).contains(p))
            }
            Truth::Regression { truth, predicted } => {
                numbers("label", truth, rows)?;
                numbers("prediction", predicted, rows)?;
                false
            }
        };
        Ok(Rows { truth, weights: None, keys: Vec::new(), probable })
    }

    /// The same rows, weighted.
    ///
    /// # Errors
    /// A weight is negative or not a number, all are zero, or there are not as many as rows.
    pub fn weighted(mut self, weights: Vec<f64>) -> Result<Rows, Error> {
        numbers("weight", &weights, self.len())?;
        let column = || "weight".to_owned();
        if let Some(row) = weights.iter().position(|w| *w < 0.0) {
            return Err(Error::Value { column: column(), row, why: "is negative" });
        }
        if weights.iter().all(|w| *w == 0.0) {
            return Err(Error::Value { column: column(), row: 0, why: "is zero, as all others are" });
        }
        self.weights = Some(weights);
        Ok(self)
    }

    /// The same rows with a column more to tell them apart by.
    ///
    /// # Errors
    /// It has not as many values as there are rows.
    pub fn key(mut self, key: Key) -> Result<Rows, Error> {
        if key.codes.len() != self.len() {
            return Err(Error::Length { column: key.name, found: key.codes.len(), rows: self.len() });
        }
        self.keys.push(key);
        Ok(self)
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there are always rows")]
    pub fn len(&self) -> usize {
        self.truth.len()
    }

    /// What is predicted, and was true.
    pub fn truth(&self) -> &Truth {
        &self.truth
    }

    /// The weights, if not all are one.
    pub fn weights(&self) -> Weights<'_> {
        self.weights.as_deref()
    }

    /// Whether scores are probabilities: all lie within 0 and 1.
    pub fn probable(&self) -> bool {
        self.probable
    }

    /// The column of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn column(&self, name: &str) -> Result<&Key, Error> {
        self.keys.iter().find(|k| k.name == name).ok_or_else(|| Error::NoColumn {
            column: name.to_owned(),
            known: match self.keys.as_slice() {
                [] => "none".to_owned(),
                keys => keys.iter().map(|k| format!("`{}`", k.name)).collect::<Vec<_>>().join(", "),
            },
        })
    }

    /// Some of the rows, without their columns to tell them apart by. `None` when no weight is left.
    pub(crate) fn subset(&self, rows: &[u32]) -> Option<Rows> {
        fn pick<T: Copy>(from: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().filter_map(|row| from.get(*row as usize).copied()).collect()
        }
        let truth = match &self.truth {
            Truth::Binary { labels, scores } => {
                Truth::Binary { labels: pick(labels, rows), scores: pick(scores, rows) }
            }
            Truth::Multiclass { classes, labels, probabilities } => {
                let each: Vec<&[f64]> = probabilities.chunks_exact(classes.len().max(1)).collect();
                let picked = pick(&each, rows).concat();
                Truth::Multiclass {
                    classes: classes.clone(),
                    labels: pick(labels, rows),
                    probabilities: picked,
                }
            }
            Truth::Regression { truth, predicted } => {
                Truth::Regression { truth: pick(truth, rows), predicted: pick(predicted, rows) }
            }
        };
        let weights = self.weights.as_ref().map(|w| pick(w, rows));
        let any = weights.as_ref().map_or(!rows.is_empty(), |w| w.iter().any(|w| *w > 0.0));
        any.then_some(Rows { truth, weights, keys: Vec::new(), probable: self.probable })
    }

    /// A hash of what does not depend on the model: labels, weights and columns. Two models were asked the same when it is equal.
    pub fn asked(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        put(self.truth.task().as_bytes());
        match &self.truth {
            Truth::Binary { labels, .. } => put(&labels.iter().map(|l| u8::from(*l)).collect::<Vec<_>>()),
            Truth::Multiclass { classes, labels, .. } => {
                let name = |class: &u32| classes.get(*class as usize).map_or("", String::as_str);
                labels.iter().for_each(|class| put(name(class).as_bytes()));
            }
            Truth::Regression { truth, .. } => truth.iter().for_each(|y| put(&y.to_le_bytes())),
        }
        self.weights.iter().flatten().for_each(|w| put(&w.to_le_bytes()));
        for key in &self.keys {
            put(key.name.as_bytes());
            let name = |code: &u32| key.values.get(*code as usize).map_or("", String::as_str);
            key.codes.iter().for_each(|code| put(name(code).as_bytes()));
        }
        hasher.finalize().to_hex().to_string()
    }
}

fn numbers(column: &str, values: &[f64], expected: usize) -> Result<(), Error> {
    if values.len() != expected {
        return Err(Error::Length { column: column.to_owned(), found: values.len(), rows: expected });
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(Error::Value { column: column.to_owned(), row, why: "is not a finite number" }),
        None => Ok(()),
    }
}

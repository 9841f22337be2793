//! A model that was just trained, of whichever kind: what it answers for rows of a table, and what file is written of it.

use super::Error;
use super::table::{Label, Table, Values};
use crate::onnx::{About, Cell, Forest, Linear, Scorer, write};

/// A trained model.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// Trees, and LightGBM's text that they came as.
    Trees {
        /// The trees.
        forest: Forest,
        /// The text.
        text: String,
    },
    /// A linear model.
    Linear(Linear),
}

impl Model {
    /// What it answers for these rows: a value, or a probability for each class.
    pub fn answers(&self, table: &Table, rows: &[u32]) -> Vec<Vec<f64>> {
        rows.iter().map(|row| self.answer(table, *row)).collect()
    }

    fn answer(&self, table: &Table, row: u32) -> Vec<f64> {
        match self {
            Model::Trees { forest, .. } => forest.answer(|feature| table.value(feature, row)),
            Model::Linear(linear) => linear.answer(table.features().iter().map(|column| {
                let at = row as usize;
                match &column.values {
                    Values::Number(all) => Cell::Number(all.get(at).copied().unwrap_or(f64::NAN)),
                    Values::Category { codes, words } => {
                        let word = codes.get(at).and_then(|code| words.get(*code as usize));
                        Cell::Text(word.map_or("", String::as_str))
                    }
                    Values::Time(_) => Cell::Number(f64::NAN),
                }
            })),
        }
    }

    /// The ONNX file.
    ///
    /// # Errors
    /// As [`write`].
    pub fn onnx(&self, table: &Table, about: &About) -> Result<Vec<u8>, Error> {
        let classes = match table.label() {
            Label::Class { classes, .. } => Some(classes),
            Label::Value(_) => None,
        };
        let features = table.inputs();
        let scorer = match self {
            Model::Trees { forest, .. } => Scorer::Trees(forest, &features),
            Model::Linear(linear) => Scorer::Linear(linear),
        };
        Ok(write(scorer, classes, about)?)
    }
}

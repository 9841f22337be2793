//! The table, column by column as it comes. What was announced bounds what is taken.

use models::train::worker::protocol::{Open, Place};

use crate::error::Error;

/// A table.
#[derive(Debug)]
pub(crate) struct Table {
    rows: usize,
    categories: Vec<bool>,
    features: Vec<Vec<f64>>,
    label: Vec<f64>,
    weights: Option<Vec<f64>>,
}

/// Rows of the table as LightGBM takes them.
pub(crate) struct Rows {
    /// Row after row.
    pub(crate) values: Vec<f64>,
    /// How many.
    pub(crate) count: usize,
    /// What is to be predicted.
    pub(crate) label: Vec<f32>,
    /// How much they count.
    pub(crate) weights: Option<Vec<f32>>,
}

/// An empty list with room for so many.
fn room<T>(count: usize, what: &'static str) -> Result<Vec<T>, Error> {
    let mut all = Vec::new();
    all.try_reserve_exact(count).map_err(|_| Error::Memory(what))?;
    Ok(all)
}

impl Table {
    /// Room for what will come.
    pub(crate) fn of(open: &Open) -> Result<Table, Error> {
        let rows = open.rows as usize;
        if rows == 0 || open.categories.is_empty() || i32::try_from(rows).is_err() {
            return Err(Error::Broken("a table without rows or features, or with too many".to_owned()));
        }
        let features = open.categories.iter().map(|_| room(rows, "the table")).collect::<Result<_, _>>()?;
        let weights = open.weights.then(|| room(rows, "the weights")).transpose()?;
        Ok(Table {
            rows,
            categories: open.categories.clone(),
            features,
            label: room(rows, "the labels")?,
            weights,
        })
    }

    /// Takes the next values of a column.
    pub(crate) fn column(&mut self, place: Place, values: &[f64]) -> Result<(), Error> {
        let column = match place {
            Place::Feature(i) => self.features.get_mut(i as usize),
            Place::Label => Some(&mut self.label),
            Place::Weight => self.weights.as_mut(),
        };
        let column = column.filter(|column| column.len() + values.len() <= self.rows);
        column
            .ok_or_else(|| Error::Broken("a column that was not announced".to_owned()))?
            .extend_from_slice(values);
        Ok(())
    }

    /// Whether all has come.
    pub(crate) fn whole(&self) -> Result<(), Error> {
        let columns = self.features.iter().chain([&self.label]).chain(&self.weights);
        if columns.into_iter().all(|column| column.len() == self.rows) {
            Ok(())
        } else {
            Err(Error::Broken("a column that is not whole".to_owned()))
        }
    }

    /// How many features there are.
    pub(crate) fn features(&self) -> usize {
        self.features.len()
    }

    /// The numbers of the features that are categories, as LightGBM wants to read them.
    pub(crate) fn categories(&self) -> String {
        let numbers = self.categories.iter().enumerate().filter(|(_, is)| **is).map(|(i, _)| i.to_string());
        numbers.collect::<Vec<_>>().join(",")
    }

    /// These rows, in this order.
    pub(crate) fn rows(&self, which: &[u32]) -> Result<Rows, Error> {
        if which.iter().any(|row| *row as usize >= self.rows) {
            return Err(Error::Broken("a row that is not there".to_owned()));
        }
        let mut values = room(which.len().saturating_mul(self.features.len()), "the rows")?;
        for row in which {
            values.extend(self.features.iter().filter_map(|column| column.get(*row as usize)));
        }
        #[expect(clippy::cast_possible_truncation, reason = "LightGBM's labels and weights have 32 bits")]
        let of = |column: &[f64]| -> Vec<f32> {
            which.iter().filter_map(|row| column.get(*row as usize)).map(|x| *x as f32).collect()
        };
        let weights = self.weights.as_deref().map(of);
        Ok(Rows { values, count: which.len(), label: of(&self.label), weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_announced_is_refused() {
        let open = Open { rows: 2, categories: vec![false, true], weights: false };
        let mut table = Table::of(&open).unwrap();
        assert!(table.column(Place::Feature(0), &[1.0, 2.0]).is_ok());
        assert!(table.column(Place::Feature(0), &[3.0]).is_err(), "more rows than announced");
        assert!(table.column(Place::Feature(2), &[3.0]).is_err(), "one more feature");
        assert!(table.column(Place::Weight, &[3.0]).is_err(), "no weights");
        assert!(table.whole().is_err(), "no label yet");
        table.column(Place::Feature(1), &[0.0, 1.0]).unwrap();
        table.column(Place::Label, &[0.0, 1.0]).unwrap();
        assert!(table.whole().is_ok() && table.rows(&[2]).is_err());
        assert_eq!(table.rows(&[1, 0]).unwrap().values, [2.0, 1.0, 1.0, 0.0]);
        assert_eq!(table.categories(), "1");
    }
}

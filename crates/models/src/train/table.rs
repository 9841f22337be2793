//! The table that is learnt from: columns of numbers, of words and of times, and what is to be predicted.
//!
//! No type of a table library shows here: whoever has one hands its columns over. Words are kept in their order, so that equal
//! data makes equal tables however it was read [test: the_order_of_words_changes_nothing].

use std::collections::BTreeMap;

use super::Error;
use crate::onnx::{Classes, Feature};

/// A column's values.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers; NaN is a missing one. Yes and no are 1 and 0.
    Number(Vec<f64>),
    /// The numbers of words; [`Values::MISSING`] is a missing one.
    Category {
        /// Each row's word.
        codes: Vec<u32>,
        /// The words, each once.
        words: Vec<String>,
    },
    /// Milliseconds since the Unix epoch; [`Values::NEVER`] is a missing one.
    Time(Vec<i64>),
}

impl Values {
    /// A missing word.
    pub const MISSING: u32 = u32::MAX;
    /// A missing time.
    pub const NEVER: i64 = i64::MIN;

    fn len(&self) -> usize {
        match self {
            Values::Number(all) => all.len(),
            Values::Category { codes, .. } => codes.len(),
            Values::Time(all) => all.len(),
        }
    }

    /// The rows that `keep` names.
    pub(super) fn rows(&self, keep: &[usize]) -> Values {
        fn pick<T: Copy>(all: &[T], keep: &[usize]) -> Vec<T> {
            keep.iter().filter_map(|row| all.get(*row).copied()).collect()
        }
        match self {
            Values::Number(all) => Values::Number(pick(all, keep)),
            Values::Category { codes, words } => {
                Values::Category { codes: pick(codes, keep), words: words.clone() }
            }
            Values::Time(all) => Values::Time(pick(all, keep)),
        }
    }

    /// Words in their order and each in use; an empty word is a missing one.
    fn sorted(self) -> Option<Values> {
        let Values::Category { codes, words } = self else { return Some(self) };
        let mut used = vec![false; words.len()];
        for code in codes.iter().filter(|code| **code != Values::MISSING) {
            *used.get_mut(*code as usize)? = true;
        }
        let mut order: BTreeMap<&str, u32> = BTreeMap::new();
        for (word, used) in words.iter().zip(&used) {
            if *used && !word.is_empty() {
                order.insert(word, 0);
            }
        }
        for (number, place) in (0_u32..).zip(order.values_mut()) {
            *place = number;
        }
        let place = |word: &String| order.get(word.as_str()).copied().unwrap_or(Values::MISSING);
        let places: Vec<u32> = words.iter().map(place).collect();
        let moved = |code: &u32| places.get(*code as usize).copied().unwrap_or(Values::MISSING);
        let codes = codes.iter().map(moved).collect();
        Some(Values::Category { codes, words: order.keys().map(|word| (*word).to_owned()).collect() })
    }
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its values.
    pub values: Values,
}

/// Columns of one length, as they come.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub(super) columns: Vec<Column>,
    pub(super) rows: usize,
}

impl Frame {
    /// Columns of one length and different names.
    ///
    /// # Errors
    /// They differ in length, two have one name, or a code has no word.
    pub fn new(columns: Vec<Column>) -> Result<Frame, Error> {
        let rows = columns.first().map_or(0, |column| column.values.len());
        let mut sound = Vec::with_capacity(columns.len());
        let mut names = std::collections::BTreeSet::new();
        for Column { name, values } in columns {
            if values.len() != rows {
                return Err(Error::Table(format!("`{name}` has {} rows, others have {rows}", values.len())));
            }
            if !names.insert(name.clone()) {
                return Err(Error::Table(format!("two columns are called `{name}`")));
            }
            let values = values.sorted();
            let values = values.ok_or_else(|| Error::Table(format!("`{name}` has a code without a word")))?;
            sound.push(Column { name, values });
        }
        Ok(Frame { columns: sound, rows })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns, in their order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column of that name.
    ///
    /// # Errors
    /// There is none; those that there are are named.
    pub fn column(&self, name: &str) -> Result<&Column, Error> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
            let why = format!("there is none of this name; there are {}", names.join(", "));
            Error::Column { column: name.to_owned(), why }
        })
    }
}

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    /// A number.
    Value(Vec<f64>),
    /// One of several classes.
    Class {
        /// Each row's class.
        of: Vec<u32>,
        /// What they are called, in their order.
        classes: Classes,
    },
}

impl Label {
    /// How many scores tell the classes apart, or 1.
    pub fn scores(&self) -> usize {
        match self {
            Label::Class { classes, .. } if classes.len() > 2 => classes.len(),
            _ => 1,
        }
    }

    /// Each row's label as a number.
    pub fn numbers(&self) -> Box<dyn Iterator<Item = f64> + Send + '_> {
        match self {
            Label::Value(all) => Box::new(all.iter().copied()),
            Label::Class { of, .. } => Box::new(of.iter().map(|class| f64::from(*class))),
        }
    }
}

/// Which columns are what.
#[derive(Debug, Clone, Default)]
pub struct Roles {
    /// What is to be predicted.
    pub target: String,
    /// Whether it is a class; `None` leaves it to its values: words and 0/1 are classes.
    pub classes: Option<bool>,
    /// The columns that are learnt from; all others when empty.
    pub features: Vec<String>,
    /// Columns that are not.
    pub exclude: Vec<String>,
    /// When a row happened.
    pub time: Option<String>,
    /// How much a row counts.
    pub weight: Option<String>,
    /// What a row belongs to: rows of one group stay together.
    pub group: Option<String>,
}

/// A table whose columns have their roles. Rows without a label are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    features: Vec<Column>,
    label: Label,
    weights: Option<Vec<f64>>,
    times: Option<Vec<i64>>,
    groups: Option<Vec<u32>>,
    rows: usize,
    /// Rows that had no label.
    unlabelled: usize,
}

impl Table {
    /// Gives the columns their roles.
    ///
    /// # Errors
    /// A column is not there or cannot be what it is to be, or nothing is left to learn from.
    pub fn of(frame: &Frame, roles: &Roles) -> Result<Table, Error> {
        let target = frame.column(&roles.target)?;
        let keep = labelled(target)?;
        let bad = |column: &str, why: &str| Error::Column { column: column.to_owned(), why: why.to_owned() };
        let label = label(&roles.target, &target.values.rows(&keep), roles.classes)?;
        let role = |name: &Option<String>| -> Result<Option<Values>, Error> {
            name.as_ref().map(|name| Ok(frame.column(name)?.values.rows(&keep))).transpose()
        };
        let times = match (role(&roles.time)?, &roles.time) {
            (None, _) => None,
            (Some(Values::Time(all)), _) if !all.contains(&Values::NEVER) => Some(all),
            (Some(Values::Time(_)), Some(name)) => {
                return Err(bad(name, "a row has no time; fill it in, or leave the row out"));
            }
            (_, name) => {
                return Err(bad(name.as_deref().unwrap_or(""), "it holds no times; name one that does"));
            }
        };
        let weights = match (role(&roles.weight)?, &roles.weight) {
            (None, _) => None,
            (Some(Values::Number(all)), _) if all.iter().all(|w| *w >= 0.0 && w.is_finite()) => Some(all),
            (_, name) => {
                return Err(bad(
                    name.as_deref().unwrap_or(""),
                    "weights are numbers, none missing or negative",
                ));
            }
        };
        let groups = role(&roles.group)?.map(|values| groups(&values));
        let features: Vec<Column> = features(frame, roles)?
            .into_iter()
            .map(|column| Column { name: column.name.clone(), values: column.values.rows(&keep) })
            .collect();
        if features.is_empty() || keep.is_empty() {
            let why = "no column is left to learn from, or no row has a label; see `features` and `exclude`";
            return Err(bad(&roles.target, why));
        }
        let (rows, unlabelled) = (keep.len(), frame.rows - keep.len());
        Ok(Table { features, label, weights, times, groups, rows, unlabelled })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many rows had no label and were left out.
    pub fn unlabelled(&self) -> usize {
        self.unlabelled
    }

    /// The columns that are learnt from: numbers and words.
    pub fn features(&self) -> &[Column] {
        &self.features
    }

    /// What is to be predicted.
    pub fn label(&self) -> &Label {
        &self.label
    }

    /// How much rows count.
    pub fn weights(&self) -> Option<&[f64]> {
        self.weights.as_deref()
    }

    /// When rows happened.
    pub fn times(&self) -> Option<&[i64]> {
        self.times.as_deref()
    }

    /// The groups of rows.
    pub fn groups(&self) -> Option<&[u32]> {
        self.groups.as_deref()
    }

    /// The same with other weights.
    pub(super) fn weighted(mut self, weights: Option<Vec<f64>>) -> Table {
        self.weights = weights;
        self
    }

    /// The same with the values of one feature in another order.
    pub(super) fn permuted(&self, feature: usize, order: &[usize]) -> Table {
        let mut other = self.clone();
        if let Some(column) = other.features.get_mut(feature) {
            column.values = column.values.rows(order);
        }
        other
    }

    /// These rows as a table of their own.
    pub(super) fn only(&self, rows: &[u32]) -> Table {
        let keep: Vec<usize> = rows.iter().map(|row| *row as usize).collect();
        let pick = |all: &Vec<f64>| keep.iter().filter_map(|row| all.get(*row).copied()).collect();
        let features = self.features.iter();
        Table {
            features: features
                .map(|c| Column { name: c.name.clone(), values: c.values.rows(&keep) })
                .collect(),
            label: match &self.label {
                Label::Value(all) => Label::Value(pick(all)),
                Label::Class { of, classes } => Label::Class {
                    of: keep.iter().filter_map(|row| of.get(*row).copied()).collect(),
                    classes: classes.clone(),
                },
            },
            weights: self.weights.as_ref().map(pick),
            times: None,
            groups: None,
            rows: keep.len(),
            unlabelled: 0,
        }
    }

    /// The columns as a model's file names them.
    pub(super) fn inputs(&self) -> Vec<Feature> {
        let input = |column: &Column| match &column.values {
            Values::Category { words, .. } => Feature::category(&column.name, words.clone()),
            _ => Feature::number(&column.name),
        };
        self.features.iter().map(input).collect()
    }

    /// A feature's value in a row: a number, or the number of a word, −1 when it is missing.
    pub(super) fn value(&self, feature: u32, row: u32) -> f64 {
        match self.features.get(feature as usize).map(|column| &column.values) {
            Some(Values::Number(all)) => all.get(row as usize).copied().unwrap_or(f64::NAN),
            Some(Values::Category { codes, .. }) => match codes.get(row as usize) {
                Some(code) if *code != Values::MISSING => f64::from(*code),
                _ => -1.0,
            },
            _ => f64::NAN,
        }
    }
}

/// The rows that have a label.
pub(super) fn labelled(target: &Column) -> Result<Vec<usize>, Error> {
    let rows = 0..target.values.len();
    match &target.values {
        Values::Number(all) => Ok(rows.filter(|row| all.get(*row).is_some_and(|x| x.is_finite())).collect()),
        Values::Category { codes, .. } => {
            Ok(rows.filter(|row| codes.get(*row).is_some_and(|code| *code != Values::MISSING)).collect())
        }
        Values::Time(_) => Err(Error::Column {
            column: target.name.clone(),
            why: "a time cannot be predicted; make a number of it".to_owned(),
        }),
    }
}

/// What is predicted: classes in their order, or numbers.
fn label(name: &str, values: &Values, classes: Option<bool>) -> Result<Label, Error> {
    let bad = |why: String| Error::Column { column: name.to_owned(), why };
    match values {
        Values::Category { codes, words } if classes != Some(false) => {
            few(words.len(), name)?;
            Ok(Label::Class { of: codes.clone(), classes: Classes::Texts(words.clone()) })
        }
        Values::Number(all) => {
            let binary = all.iter().all(|x| *x == 0.0 || *x == 1.0);
            if !classes.unwrap_or(binary) {
                return Ok(Label::Value(all.clone()));
            }
            #[expect(clippy::cast_possible_truncation, reason = "whole numbers below 2^53 only")]
            let whole = |x: &f64| (x.fract() == 0.0 && x.abs() < 9e15).then_some(*x as i64);
            let numbers: Option<Vec<i64>> = all.iter().map(whole).collect();
            let numbers = numbers.ok_or_else(|| bad("classes are words or whole numbers".to_owned()))?;
            let mut distinct: Vec<i64> = numbers.clone();
            distinct.sort_unstable();
            distinct.dedup();
            few(distinct.len(), name)?;
            let place =
                |x: &i64| distinct.binary_search(x).ok().and_then(|at| u32::try_from(at).ok()).unwrap_or(0);
            Ok(Label::Class { of: numbers.iter().map(place).collect(), classes: Classes::Numbers(distinct) })
        }
        _ => Err(bad("it holds words, which are classes; say `task: classification`".to_owned())),
    }
}

fn few(classes: usize, name: &str) -> Result<(), Error> {
    let why = match classes {
        2..=1000 => return Ok(()),
        0 | 1 => "every row has the same class: there is nothing to learn",
        _ => "it has more than 1000 classes; say `task: regression`, or predict something coarser",
    };
    Err(Error::Column { column: name.to_owned(), why: why.to_owned() })
}

fn groups(values: &Values) -> Vec<u32> {
    fn numbered<T: Ord + Copy>(all: impl Iterator<Item = T> + Clone) -> Vec<u32> {
        let mut seen: BTreeMap<T, u32> = BTreeMap::new();
        let mut of = |x: T| {
            let next = u32::try_from(seen.len()).unwrap_or(u32::MAX);
            *seen.entry(x).or_insert(next)
        };
        all.map(&mut of).collect()
    }
    match values {
        Values::Number(all) => numbered(all.iter().map(|x| x.to_bits())),
        Values::Category { codes, .. } => numbered(codes.iter().copied()),
        Values::Time(all) => numbered(all.iter().copied()),
    }
}

/// The columns that are learnt from.
fn features<'a>(frame: &'a Frame, roles: &Roles) -> Result<Vec<&'a Column>, Error> {
    for name in roles.features.iter().chain(&roles.exclude) {
        frame.column(name)?;
    }
    let role = |name: &String| {
        *name == roles.target
            || [&roles.time, &roles.weight, &roles.group].into_iter().flatten().any(|used| used == name)
    };
    let is_in = |column: &&Column| {
        let named = roles.features.contains(&column.name);
        let free =
            roles.features.is_empty() && !role(&column.name) && !matches!(column.values, Values::Time(_));
        (named || free) && !roles.exclude.contains(&column.name)
    };
    let all: Vec<&Column> = frame.columns.iter().filter(is_in).collect();
    for column in &all {
        let why = if column.name == roles.target {
            "it is what is to be predicted"
        } else if matches!(column.values, Values::Time(_)) {
            "a time is no feature; make numbers of it, such as the hour"
        } else {
            continue;
        };
        return Err(Error::Column { column: column.name.clone(), why: why.to_owned() });
    }
    Ok(all)
}

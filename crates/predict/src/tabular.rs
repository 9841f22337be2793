//! Rows with named columns, and how they become what a model takes.
//!
//! Models from tables take either one tensor of rows by features, or one tensor for each column; callers send either, or a
//! frame. A frame's columns are found by name where the model has names (its inputs', or its feature names), else in their
//! order. Numbers are fitted to the model's type where nothing is lost, and floats to narrower floats; a missing value is NaN
//! of floats, and an empty text; it fits nothing else.

use std::borrow::Borrow;

use half::f16;

use crate::backend::Metadata;
use crate::datatype::DataType;
use crate::error::Error;
use crate::protocol::Input;
use crate::signature::{DYNAMIC, Field, Signature};
use crate::tensor::Tensor;

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Missing.
    Null,
    /// A flag.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other.
    Float(f64),
    /// A text.
    Text(String),
}

/// Columns of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frame {
    /// The names, in order; they may be missing where rows were given without.
    pub names: Option<Vec<String>>,
    /// By column.
    pub columns: Vec<Vec<Cell>>,
}

/// Values of a column that lie in memory as such, not as cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values<'a> {
    /// Numbers; NaN is a missing one.
    Numbers(&'a [f64]),
    /// Each row's text, by its place in `words`; a place that is none is an empty text.
    Texts {
        /// The places.
        codes: &'a [u32],
        /// The texts.
        words: &'a [String],
    },
}

/// Named columns of equal length that lie in memory as such: what a [`Frame`] is, without a cell for each value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Columns<'a>(pub Vec<(&'a str, Values<'a>)>);

/// Rows in columns.
trait Table {
    /// The names, in order; `None` where rows were given without.
    fn names(&self) -> Option<Vec<&str>>;
    fn width(&self) -> usize;
    fn rows(&self) -> usize;
    /// A column as a tensor of a shape that holds one element a row.
    fn column(&self, at: usize, field: &Field, shape: Vec<i64>) -> Result<Tensor, Error>;
    /// Rows by columns, of those at these places.
    fn matrix(&self, places: &[usize], field: &Field, shape: Vec<i64>) -> Result<Tensor, Error>;
}

impl Frame {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// The model's inputs out of the columns.
    ///
    /// # Errors
    /// A column that is missing, or a value that the model's type does not hold.
    pub fn bind(&self, signature: &Signature, metadata: &Metadata) -> Result<Vec<Tensor>, Error> {
        bind(self, signature, metadata)
    }
}

impl Table for Frame {
    fn names(&self) -> Option<Vec<&str>> {
        self.names.as_ref().map(|names| names.iter().map(String::as_str).collect())
    }

    fn width(&self) -> usize {
        self.columns.len()
    }

    fn rows(&self) -> usize {
        Frame::rows(self)
    }

    fn column(&self, at: usize, field: &Field, shape: Vec<i64>) -> Result<Tensor, Error> {
        tensor(field, shape, self.columns.get(at).into_iter().flatten())
    }

    fn matrix(&self, places: &[usize], field: &Field, shape: Vec<i64>) -> Result<Tensor, Error> {
        let columns: Vec<&Vec<Cell>> = places.iter().filter_map(|at| self.columns.get(*at)).collect();
        let cells = (0..self.rows()).flat_map(|r| columns.iter().filter_map(move |c| c.get(r)));
        tensor(field, shape, cells)
    }
}

impl Columns<'_> {
    /// The model's inputs out of the columns: the same as of a [`Frame`] that holds them.
    ///
    /// # Errors
    /// A column that is missing, or a value that the model's type does not hold.
    pub fn bind(&self, signature: &Signature, metadata: &Metadata) -> Result<Vec<Tensor>, Error> {
        bind(self, signature, metadata)
    }

    fn cell(&self, at: usize, row: usize) -> Cell {
        match self.0.get(at) {
            Some((_, Values::Numbers(all))) => {
                all.get(row).filter(|x| !x.is_nan()).map_or(Cell::Null, |x| Cell::Float(*x))
            }
            Some((_, Values::Texts { codes, words })) => {
                let word = codes.get(row).and_then(|code| words.get(*code as usize));
                Cell::Text(word.cloned().unwrap_or_default())
            }
            None => Cell::Null,
        }
    }
}

impl Table for Columns<'_> {
    fn names(&self) -> Option<Vec<&str>> {
        Some(self.0.iter().map(|(name, _)| *name).collect())
    }

    fn width(&self) -> usize {
        self.0.len()
    }

    fn rows(&self) -> usize {
        match self.0.first() {
            Some((_, Values::Numbers(all))) => all.len(),
            Some((_, Values::Texts { codes, .. })) => codes.len(),
            None => 0,
        }
    }

    fn column(&self, at: usize, field: &Field, shape: Vec<i64>) -> Result<Tensor, Error> {
        match (self.0.get(at), field.datatype) {
            (Some((_, Values::Texts { codes, words })), DataType::Bytes) => {
                let word = |code: &u32| words.get(*code as usize).map_or("", String::as_str);
                Tensor::of_strings(shape, codes.iter().map(word))
            }
            _ => self.matrix(&[at], field, shape),
        }
    }

    fn matrix(&self, places: &[usize], field: &Field, shape: Vec<i64>) -> Result<Tensor, Error> {
        let number = |at: &usize| match self.0.get(*at) {
            Some((_, Values::Numbers(all))) => Some(*all),
            _ => None,
        };
        let numbers: Option<Vec<&[f64]>> = places.iter().map(number).collect();
        match (numbers, field.datatype) {
            #[expect(clippy::cast_possible_truncation, reason = "a narrower float is what the model takes")]
            (Some(columns), DataType::Fp32) => {
                Tensor::of(field.datatype, shape, side_by_side(&columns, |x| x as f32))
            }
            (Some(columns), DataType::Fp64) => {
                Tensor::of(field.datatype, shape, side_by_side(&columns, |x| x))
            }
            _ => {
                let cells = (0..self.rows()).flat_map(|row| places.iter().map(move |at| self.cell(*at, row)));
                tensor(field, shape, cells)
            }
        }
    }
}

/// The rows of columns, one behind the other.
fn side_by_side<T>(columns: &[&[f64]], each: impl Fn(f64) -> T) -> Vec<T> {
    let rows = columns.iter().map(|c| c.len()).min().unwrap_or(0);
    let mut all = Vec::with_capacity(rows * columns.len());
    for row in 0..rows {
        all.extend(columns.iter().filter_map(|c| c.get(row)).map(|x| each(*x)));
    }
    all
}

fn bind<T: Table>(table: &T, signature: &Signature, metadata: &Metadata) -> Result<Vec<Tensor>, Error> {
    let names = table.names();
    let place = |name: &str| names.iter().flatten().position(|n| *n == name);
    // Whether an input is a single column of these: the only one, or the one of its name.
    let is_column =
        |only: &Field| only.shape.get(1) == Some(&1) && (table.width() == 1 || place(&only.name).is_some());
    let found = |name: &str| {
        place(name).ok_or_else(|| {
            let names = names.as_deref().unwrap_or_default().join(", ");
            Error::wrong("columns", format!("the column `{name}` is missing: there are {names}"))
        })
    };
    let length = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let rows = length(table.rows());
    if let [only] = signature.inputs.as_slice()
        && only.shape.len() == 2
        && !is_column(only)
    {
        let places: Vec<usize> = match (&names, metadata.features.as_slice()) {
            (Some(_), features @ [_, ..]) => features.iter().map(|f| found(f)).collect::<Result<_, _>>()?,
            _ => (0..table.width()).collect(),
        };
        let (wanted, given) = (only.shape.get(1).copied().unwrap_or(DYNAMIC), length(places.len()));
        if wanted != DYNAMIC && wanted != given {
            let m = format!("{given} columns are given, and the model takes {wanted}");
            return Err(Error::wrong("columns", m));
        }
        return Ok(vec![table.matrix(&places, only, vec![rows, given])?]);
    }
    let takes = signature.inputs.len();
    if names.is_none() && table.width() != takes {
        let m = format!("{} columns are given, and the model takes {takes}", table.width());
        return Err(Error::wrong("columns", m));
    }
    let each = |(at, field): (usize, &Field)| {
        let at = match &names {
            None => at,
            // A single column needs no name.
            Some(_) if takes == 1 && table.width() == 1 => at,
            Some(_) => found(&field.name)?,
        };
        let mut shape = vec![1; field.shape.len().max(1)];
        if let Some(first) = shape.first_mut() {
            *first = rows;
        }
        table.column(at, field, shape)
    };
    signature.inputs.iter().enumerate().map(each).collect()
}

/// What inputs that are not the model's own become: one tensor of columns, or columns of one tensor. Anything else is left as it is.
pub fn fit<'a>(inputs: Vec<Input<'a>>, signature: &Signature) -> Vec<Input<'a>> {
    let own = |i: &Input<'_>| signature.inputs.iter().any(|f| f.name == i.name);
    match (signature.inputs.as_slice(), inputs.as_slice()) {
        ([model], [_, ..]) if model.shape.len() == 2 && !inputs.iter().any(own) => {
            match joined(&inputs, model) {
                Some(tensor) => vec![Input { name: model.name.clone().into(), tensor }],
                None => inputs,
            }
        }
        ([_, _, ..], [given]) if !own(given) => parted(&given.tensor, signature).unwrap_or(inputs),
        _ => inputs,
    }
}

/// Columns side by side.
fn joined(inputs: &[Input<'_>], model: &Field) -> Option<Tensor> {
    let rows = inputs.first()?.tensor.rows();
    let size = model.datatype.size()?;
    let is_column =
        |t: &Tensor| t.datatype() == model.datatype && t.rows() == rows && matches!(t.shape(), [_] | [_, 1]);
    if !inputs.iter().all(|i| is_column(&i.tensor)) {
        return None;
    }
    let mut data = Vec::with_capacity(rows * size * inputs.len());
    for row in 0..rows {
        for input in inputs {
            data.extend_from_slice(input.tensor.data().get(row * size..(row + 1) * size)?);
        }
    }
    let shape = vec![i64::try_from(rows).ok()?, i64::try_from(inputs.len()).ok()?];
    Tensor::new(model.datatype, shape, data.into()).ok()
}

/// A tensor's columns, each an input.
fn parted(tensor: &Tensor, signature: &Signature) -> Option<Vec<Input<'static>>> {
    let [rows, columns] = *tensor.shape() else { return None };
    let size = tensor.datatype().size()?;
    let wide = usize::try_from(columns).ok().filter(|c| *c == signature.inputs.len())?;
    let one = |(at, field): (usize, &Field)| {
        let data = tensor.data().chunks_exact(size * wide);
        let column = data.filter_map(|row| row.get(at * size..(at + 1) * size)).flatten().copied();
        let shape = if field.shape.len() == 1 { vec![rows] } else { vec![rows, 1] };
        let tensor = Tensor::new(tensor.datatype(), shape, column.collect::<Vec<u8>>().into()).ok()?;
        Some(Input { name: field.name.clone().into(), tensor })
    };
    signature.inputs.iter().enumerate().map(one).collect()
}

/// Cells as elements of a type.
fn tensor<C: Borrow<Cell>>(
    field: &Field,
    shape: Vec<i64>,
    cells: impl Iterator<Item = C>,
) -> Result<Tensor, Error> {
    let name = field.name.as_str();
    let wrong = |cell: &Cell| {
        let kind = match cell {
            Cell::Null => "a missing value",
            Cell::Bool(_) => "a flag",
            Cell::Int(_) | Cell::Float(_) => "this number",
            Cell::Text(_) => "a text",
        };
        Error::wrong(name, format!("{kind} is no {}, which the model takes `{name}` as", field.datatype))
    };
    macro_rules! whole {
        ($type:ty) => {{
            let one = |c: C| {
                let c = c.borrow();
                whole(c).and_then(|n| <$type>::try_from(n).ok()).ok_or_else(|| wrong(c))
            };
            Tensor::of(field.datatype, shape, cells.map(one).collect::<Result<Vec<$type>, _>>()?)
        }};
    }
    macro_rules! float {
        ($type:ty, $narrow:expr) => {{
            let one = |c: C| {
                let c = c.borrow();
                float(c).map($narrow).ok_or_else(|| wrong(c))
            };
            Tensor::of(field.datatype, shape, cells.map(one).collect::<Result<Vec<$type>, _>>()?)
        }};
    }
    match field.datatype {
        DataType::Bool => {
            let one = |c: C| match c.borrow() {
                Cell::Bool(b) => Ok(u8::from(*b)),
                Cell::Int(n @ (0 | 1)) => Ok(u8::from(*n == 1)),
                other => Err(wrong(other)),
            };
            Tensor::of(field.datatype, shape, cells.map(one).collect::<Result<Vec<u8>, _>>()?)
        }
        DataType::Uint8 => whole!(u8),
        DataType::Uint16 => whole!(u16),
        DataType::Uint32 => whole!(u32),
        DataType::Uint64 => whole!(u64),
        DataType::Int8 => whole!(i8),
        DataType::Int16 => whole!(i16),
        DataType::Int32 => whole!(i32),
        DataType::Int64 => whole!(i64),
        DataType::Fp16 => float!(u16, |x| f16::from_f64(x).to_bits()),
        #[expect(clippy::cast_possible_truncation, reason = "a narrower float is what the model takes")]
        DataType::Fp32 => float!(f32, |x| x as f32),
        DataType::Fp64 => float!(f64, |x| x),
        DataType::Bytes => {
            let one = |c: C| match c.borrow() {
                // As in the tables that models learn from: nothing is an empty text.
                Cell::Null => Ok(String::new()),
                Cell::Bool(b) => Ok(b.to_string()),
                Cell::Int(n) => Ok(n.to_string()),
                Cell::Float(x) => Ok(x.to_string()),
                Cell::Text(t) => Ok(t.clone()),
            };
            Tensor::of_strings(shape, cells.map(one).collect::<Result<Vec<_>, _>>()?)
        }
    }
}

fn whole(cell: &Cell) -> Option<i64> {
    match *cell {
        Cell::Bool(b) => Some(i64::from(b)),
        Cell::Int(n) => Some(n),
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
        Cell::Float(x) if x.fract() == 0.0 && x.abs() <= 9_007_199_254_740_992.0 => Some(x as i64),
        _ => None,
    }
}

fn float(cell: &Cell) -> Option<f64> {
    match *cell {
        Cell::Null => Some(f64::NAN),
        Cell::Bool(b) => Some(f64::from(u8::from(b))),
        #[expect(clippy::cast_precision_loss, reason = "a float is what the model takes")]
        Cell::Int(n) => Some(n as f64),
        Cell::Float(x) => Some(x),
        Cell::Text(_) => None,
    }
}

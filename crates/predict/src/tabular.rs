//! Rows with named columns, and how they become what a model takes.
//!
//! Models from tables take either one tensor of rows by features, or one tensor for each column; callers send either, or a
//! frame. A frame's columns are found by name where the model has names (its inputs', or its feature names), else in their
//! order. Numbers are fitted to the model's type where nothing is lost, and floats to narrower floats; a missing value is NaN
//! and fits floats alone.

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

impl Frame {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Whether an input is a single column of these: the only one, or the one of its name.
    fn is_column(&self, only: &Field) -> bool {
        let named = self.names.iter().flatten().any(|name| *name == only.name);
        only.shape.get(1) == Some(&1) && (self.columns.len() == 1 || named)
    }

    fn column(&self, name: &str) -> Result<&Vec<Cell>, Error> {
        let at = self.names.iter().flatten().position(|n| n == name);
        at.and_then(|at| self.columns.get(at)).ok_or_else(|| {
            let names = self.names.as_deref().unwrap_or_default().join(", ");
            Error::wrong("columns", format!("the column `{name}` is missing: there are {names}"))
        })
    }

    /// The model's inputs out of the columns.
    ///
    /// # Errors
    /// A column that is missing, or a value that the model's type does not hold.
    pub fn bind(&self, signature: &Signature, metadata: &Metadata) -> Result<Vec<Tensor>, Error> {
        if let [only] = signature.inputs.as_slice()
            && only.shape.len() == 2
            && !self.is_column(only)
        {
            return Ok(vec![self.matrix(only, &metadata.features)?]);
        }
        let named = self.names.is_some();
        if !named && self.columns.len() != signature.inputs.len() {
            let m = format!(
                "{} columns are given, and the model takes {}",
                self.columns.len(),
                signature.inputs.len()
            );
            return Err(Error::wrong("columns", m));
        }
        let each = |(at, field): (usize, &Field)| {
            let by_name = named.then(|| self.column(&field.name));
            let cells = match by_name {
                // A single column needs no name.
                Some(Err(_)) | None if !named || (signature.inputs.len() == 1 && self.columns.len() == 1) => {
                    self.columns.get(at)
                }
                Some(found) => Some(found?),
                None => None,
            };
            let cells = cells.ok_or_else(|| Error::wrong("columns", "a column is missing"))?;
            let n = i64::try_from(cells.len()).unwrap_or(i64::MAX);
            let shape = match field.shape.len() {
                0 | 1 => vec![n],
                rank => {
                    let mut shape = vec![1; rank];
                    if let Some(first) = shape.first_mut() {
                        *first = n;
                    }
                    shape
                }
            };
            tensor(field, shape, cells.iter())
        };
        signature.inputs.iter().enumerate().map(each).collect()
    }

    /// Rows by features.
    fn matrix(&self, field: &Field, features: &[String]) -> Result<Tensor, Error> {
        let columns: Vec<&Vec<Cell>> = match (&self.names, features) {
            (Some(_), [_, ..]) => features.iter().map(|f| self.column(f)).collect::<Result<_, _>>()?,
            _ => self.columns.iter().collect(),
        };
        let wanted = field.shape.get(1).copied().unwrap_or(DYNAMIC);
        let given = i64::try_from(columns.len()).unwrap_or(i64::MAX);
        if wanted != DYNAMIC && wanted != given {
            let m = format!("{given} columns are given, and the model takes {wanted}");
            return Err(Error::wrong("columns", m));
        }
        let rows = self.rows();
        let cells = (0..rows).flat_map(|r| columns.iter().filter_map(move |c| c.get(r)));
        tensor(field, vec![i64::try_from(rows).unwrap_or(i64::MAX), given], cells)
    }
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
fn tensor<'a>(
    field: &Field,
    shape: Vec<i64>,
    cells: impl Iterator<Item = &'a Cell>,
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
            let one = |c: &Cell| whole(c).and_then(|n| <$type>::try_from(n).ok()).ok_or_else(|| wrong(c));
            Tensor::of(field.datatype, shape, cells.map(one).collect::<Result<Vec<$type>, _>>()?)
        }};
    }
    macro_rules! float {
        ($type:ty, $narrow:expr) => {{
            let one = |c: &Cell| float(c).map($narrow).ok_or_else(|| wrong(c));
            Tensor::of(field.datatype, shape, cells.map(one).collect::<Result<Vec<$type>, _>>()?)
        }};
    }
    match field.datatype {
        DataType::Bool => {
            let one = |c: &Cell| match c {
                Cell::Bool(b) => Ok(u8::from(*b)),
                Cell::Int(n @ (0 | 1)) => Ok(u8::from(*n == 1)),
                c => Err(wrong(c)),
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
            let one = |c: &Cell| match c {
                Cell::Null => Err(wrong(c)),
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

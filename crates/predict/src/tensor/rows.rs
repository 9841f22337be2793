//! Rows: what lies along the first dimension. Joined by appending, parted by slicing.

use bytes::{Bytes, BytesMut};

use super::{Tensor, strings};
use crate::error::Error;

impl Tensor {
    /// How many rows: the first dimension, or 1 of a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().map_or(1, |d| usize::try_from(*d).unwrap_or(0))
    }

    /// The dimensions of a row.
    pub fn row_shape(&self) -> &[i64] {
        self.shape.get(1..).unwrap_or_default()
    }

    /// Many tensors of one type and row shape as one, in their order. One alone is not copied.
    ///
    /// # Errors
    /// They differ in type or in the shape of a row, or are scalars, or none.
    pub fn concat(parts: &[Tensor]) -> Result<Tensor, Error> {
        let [first, others @ ..] = parts else {
            return Err(Error::Defect("nothing was to be joined".to_owned()));
        };
        if others.is_empty() {
            return Ok(first.clone());
        }
        let fits = |t: &Tensor| {
            t.datatype == first.datatype && !t.shape.is_empty() && t.row_shape() == first.row_shape()
        };
        if !parts.iter().all(fits) {
            return Err(Error::Defect("rows of different shapes were to be joined".to_owned()));
        }
        let mut data = BytesMut::with_capacity(parts.iter().map(|p| p.data.len()).sum());
        parts.iter().for_each(|p| data.extend_from_slice(&p.data));
        let rows = parts.iter().map(Tensor::rows).sum::<usize>();
        let mut shape = first.shape.clone();
        if let Some(d) = shape.first_mut() {
            *d = i64::try_from(rows).unwrap_or(i64::MAX);
        }
        Ok(Tensor { datatype: first.datatype, shape, data: data.freeze() })
    }

    /// The same rows in parts of these sizes, which share the memory.
    ///
    /// # Errors
    /// The sizes are not all the rows there are.
    pub fn split(&self, sizes: &[usize]) -> Result<Vec<Tensor>, Error> {
        if self.shape.is_empty() || sizes.iter().sum::<usize>() != self.rows() {
            let m = format!("an answer of shape {:?} has not one row for each of the request's", self.shape);
            return Err(Error::Run(m));
        }
        let row = self.row_shape().iter().fold(1, |n, d| n * usize::try_from(*d).unwrap_or(0));
        let mut rest = self.data.clone();
        let part = |rest: &mut Bytes, rows: usize| {
            let length = match self.datatype.size() {
                Some(size) => rows * row * size,
                None => strings::length_of(rest, rows * row),
            };
            let mut shape = self.shape.clone();
            if let Some(d) = shape.first_mut() {
                *d = i64::try_from(rows).unwrap_or(i64::MAX);
            }
            Tensor { datatype: self.datatype, shape, data: rest.split_to(length.min(rest.len())) }
        };
        Ok(sizes.iter().map(|rows| part(&mut rest, *rows)).collect())
    }
}

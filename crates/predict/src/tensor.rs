//! A tensor: a type, a shape, and the elements as the protocol's binary form has them.
//!
//! That one form is what makes most of the way free of copies: a binary body is sliced, rows of a batch are joined by
//! appending and parted by slicing. Elements are little-endian, row-major, without padding; an element of
//! [`DataType::Bytes`] is its length in four bytes and then itself.
//!
//! Invariant: the bytes hold exactly the elements that the shape says; no dimension is negative.

use std::borrow::Cow;

use bytemuck::{AnyBitPattern, NoUninit};
use bytes::Bytes;

use crate::datatype::DataType;
use crate::error::Error;

mod rows;
mod strings;

pub use strings::Strings;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    datatype: DataType,
    shape: Vec<i64>,
    data: Bytes,
}

/// A vector whose memory the tensor takes over.
struct Owned<T>(Vec<T>);

impl<T: NoUninit> AsRef<[u8]> for Owned<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

/// The elements of a vector as they lie in memory, without a copy. The machine must be little-endian.
pub(crate) fn bytes_of<T: NoUninit + Send + 'static>(values: Vec<T>) -> Bytes {
    const { assert!(cfg!(target_endian = "little"), "tensors are little-endian") };
    Bytes::from_owner(Owned(values))
}

/// How many elements a shape holds.
///
/// # Errors
/// A negative dimension, or more elements than memory has bytes.
pub fn elements(shape: &[i64]) -> Result<usize, Error> {
    let all = shape.iter().try_fold(1usize, |n, d| n.checked_mul(usize::try_from(*d).ok()?));
    all.ok_or_else(|| Error::invalid(format!("the shape {shape:?} is none: dimensions are 0 or more")))
}

impl Tensor {
    /// A tensor over elements in their binary form.
    ///
    /// # Errors
    /// The bytes are not as many as the shape says.
    pub fn new(datatype: DataType, shape: Vec<i64>, data: Bytes) -> Result<Self, Error> {
        let wanted = elements(&shape)?;
        match datatype.size() {
            Some(size) => {
                let bytes = wanted.checked_mul(size);
                if bytes != Some(data.len()) {
                    let m = format!(
                        "{} bytes are not a {datatype} tensor of shape {shape:?}, which has {wanted} elements of {size} bytes",
                        data.len()
                    );
                    return Err(Error::invalid(m));
                }
                if datatype == DataType::Bool && data.iter().any(|b| *b > 1) {
                    return Err(Error::invalid("a BOOL is one byte, 0 or 1"));
                }
            }
            None => strings::check(&data, wanted, &shape)?,
        }
        Ok(Tensor { datatype, shape, data })
    }

    /// A tensor of numbers, whose memory is taken over.
    ///
    /// # Errors
    /// They are not as many as the shape says, or not of that type's size.
    pub fn of<T: NoUninit + Send + 'static>(
        datatype: DataType,
        shape: Vec<i64>,
        values: Vec<T>,
    ) -> Result<Self, Error> {
        if datatype.size() != Some(size_of::<T>()) {
            return Err(Error::Defect(format!("elements of {} bytes are no {datatype}", size_of::<T>())));
        }
        Tensor::new(datatype, shape, bytes_of(values))
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// They are not as many as the shape says.
    pub fn of_strings<S: AsRef<[u8]>>(
        shape: Vec<i64>,
        values: impl IntoIterator<Item = S>,
    ) -> Result<Self, Error> {
        Tensor::new(DataType::Bytes, shape, strings::joined(values)?)
    }

    /// The type of its elements.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// Its dimensions, the outermost first.
    pub fn shape(&self) -> &[i64] {
        &self.shape
    }

    /// Its elements in their binary form.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.shape.iter().fold(1usize, |n, d| n.saturating_mul(usize::try_from(*d).unwrap_or(0)))
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same elements in another shape.
    ///
    /// # Errors
    /// The shape holds another number of them.
    pub fn reshaped(mut self, shape: Vec<i64>) -> Result<Self, Error> {
        if elements(&shape)? != self.len() {
            return Err(Error::invalid(format!("{:?} cannot be seen as {shape:?}", self.shape)));
        }
        self.shape = shape;
        Ok(self)
    }

    /// The numbers. Copied only where they do not lie as a `T` must, which a slice of a body may not.
    ///
    /// # Errors
    /// A `T` has not the size of this type.
    pub fn values<T: AnyBitPattern + NoUninit>(&self) -> Result<Cow<'_, [T]>, Error> {
        if self.datatype.size() != Some(size_of::<T>()) {
            let m = format!("a {} tensor was read as elements of {} bytes", self.datatype, size_of::<T>());
            return Err(Error::Defect(m));
        }
        Ok(match bytemuck::try_cast_slice(&self.data) {
            Ok(values) => Cow::Borrowed(values),
            Err(_) => {
                let mut aligned = vec![T::zeroed(); self.len()];
                bytemuck::cast_slice_mut(&mut aligned).copy_from_slice(&self.data);
                Cow::Owned(aligned)
            }
        })
    }

    /// The strings, in order; nothing when it is of numbers.
    pub fn strings(&self) -> Strings<'_> {
        strings::of(if self.datatype == DataType::Bytes { &self.data } else { &[] })
    }
}

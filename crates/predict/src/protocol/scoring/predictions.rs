//! `{"predictions": …}` out of a model's outputs.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;
use crate::protocol::v2::{elements, quoted};
use crate::tensor::Tensor;

/// Writes an answer: a model with one output by its values, several by row or by name.
///
/// # Errors
/// A string that is not UTF-8.
pub fn predictions(outputs: &[(&str, Tensor)], by_row: bool) -> Result<Bytes, Error> {
    let mut out = BytesMut::with_capacity(64 + outputs.iter().map(|(_, t)| t.len() * 12).sum::<usize>());
    out.put_slice(b"{\"predictions\":");
    match outputs {
        [(name, tensor)] => nested(&mut out, name, &squeezed(tensor))?,
        _ if by_row => rows(&mut out, outputs)?,
        _ => {
            out.put_u8(b'{');
            for (at, (name, tensor)) in outputs.iter().enumerate() {
                separate(&mut out, at);
                quoted(&mut out, name);
                out.put_u8(b':');
                nested(&mut out, name, &squeezed(tensor))?;
            }
            out.put_u8(b'}');
        }
    }
    out.put_u8(b'}');
    Ok(out.freeze())
}

fn separate(out: &mut BytesMut, at: usize) {
    if at > 0 {
        out.put_u8(b',');
    }
}

/// A column of rows of one is a list: what scikit-learn's own predictions are.
fn squeezed(tensor: &Tensor) -> Tensor {
    match *tensor.shape() {
        [rows, 1] => tensor.clone().reshaped(vec![rows]).unwrap_or_else(|_| tensor.clone()),
        _ => tensor.clone(),
    }
}

fn rows(out: &mut BytesMut, outputs: &[(&str, Tensor)]) -> Result<(), Error> {
    let count = outputs.first().map_or(0, |(_, t)| t.rows());
    let parted = |(name, tensor): &(&str, Tensor)| {
        let each = squeezed(tensor).split(&vec![1; count]).map_err(|_| {
            let m = format!("the output `{name}` has not one row for each that was sent: send `inputs`");
            Error::invalid(m)
        })?;
        Ok(each)
    };
    let columns = outputs.iter().map(parted).collect::<Result<Vec<_>, Error>>()?;
    out.put_u8(b'[');
    for row in 0..count {
        separate(out, row);
        out.put_u8(b'{');
        for (at, ((name, _), column)) in outputs.iter().zip(&columns).enumerate() {
            let Some(value) = column.get(row) else { continue };
            separate(out, at);
            quoted(out, name);
            out.put_u8(b':');
            nested(out, name, &value.clone().reshaped(value.row_shape().to_vec())?)?;
        }
        out.put_u8(b'}');
    }
    out.put_u8(b']');
    Ok(())
}

/// Lists in lists as the shape says.
fn nested(out: &mut BytesMut, name: &str, tensor: &Tensor) -> Result<(), Error> {
    match tensor.shape() {
        [] => elements(out, name, tensor),
        [_] => {
            out.put_u8(b'[');
            elements(out, name, tensor)?;
            out.put_u8(b']');
            Ok(())
        }
        _ => {
            out.put_u8(b'[');
            for (at, row) in tensor.split(&vec![1; tensor.rows()])?.into_iter().enumerate() {
                separate(out, at);
                let shape = row.row_shape().to_vec();
                nested(out, name, &row.reshaped(shape)?)?;
            }
            out.put_u8(b']');
            Ok(())
        }
    }
}

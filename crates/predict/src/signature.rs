//! What a model takes and gives: names, types and shapes, and how a request is held to them.

use std::fmt;

use crate::datatype::DataType;
use crate::error::Error;
use crate::protocol::Input;
use crate::tensor::Tensor;

/// A dimension that a request chooses.
pub const DYNAMIC: i64 = -1;

/// An input or an output of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub datatype: DataType,
    /// Its dimensions; [`DYNAMIC`] where a request chooses.
    pub shape: Vec<i64>,
}

/// Everything that a model takes and gives, in its own order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// What it takes. Each is needed.
    pub inputs: Vec<Field>,
    /// What it gives.
    pub outputs: Vec<Field>,
}

impl Field {
    /// Whether a tensor of this shape fits.
    pub fn takes_shape(&self, shape: &[i64]) -> bool {
        shape.len() == self.shape.len()
            && shape.iter().zip(&self.shape).all(|(given, own)| *own == DYNAMIC || given == own)
    }

    fn check(&self, tensor: &Tensor) -> Result<(), Error> {
        let (given, own) = (tensor.datatype(), self.datatype);
        if given != own {
            let m = format!("the model takes `{}` as {own}, not as {given}", self.name);
            return Err(Error::wrong(&self.name, m));
        }
        if !self.takes_shape(tensor.shape()) {
            let m = format!(
                "the model takes `{}` of shape {}, not {:?}",
                self.name,
                Dims(&self.shape),
                tensor.shape()
            );
            return Err(Error::wrong(&self.name, m));
        }
        Ok(())
    }
}

/// A shape for people: what a request chooses is a question mark.
struct Dims<'a>(&'a [i64]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, d) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match *d {
                DYNAMIC => f.write_str("?")?,
                d => write!(f, "{d}")?,
            }
        }
        f.write_str("]")
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.name, self.datatype, Dims(&self.shape))
    }
}

fn listed(fields: &[Field]) -> String {
    fields.iter().map(Field::to_string).collect::<Vec<_>>().join(", ")
}

impl Signature {
    /// A request's inputs in the model's order.
    ///
    /// # Errors
    /// One that is missing, unknown, given twice, of another type or of a shape that does not fit; each is named with what
    /// the model takes.
    pub fn bind(&self, inputs: Vec<Input<'_>>) -> Result<Vec<Tensor>, Error> {
        // The order that most requests have is the model's.
        let same = inputs.len() == self.inputs.len()
            && inputs.iter().zip(&self.inputs).all(|(i, f)| i.name == f.name);
        let ordered: Vec<Tensor> =
            if same { inputs.into_iter().map(|i| i.tensor).collect() } else { self.sorted(inputs)? };
        for (field, tensor) in self.inputs.iter().zip(&ordered) {
            field.check(tensor)?;
        }
        Ok(ordered)
    }

    fn sorted(&self, inputs: Vec<Input<'_>>) -> Result<Vec<Tensor>, Error> {
        let mut found: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        for Input { name, tensor } in inputs {
            let place = self.inputs.iter().position(|f| f.name == name).and_then(|at| found.get_mut(at));
            match place {
                None => {
                    let m = format!("the model has no input `{name}`: it takes {}", listed(&self.inputs));
                    return Err(Error::wrong("inputs", m));
                }
                Some(Some(_)) => return Err(Error::wrong("inputs", format!("`{name}` is given twice"))),
                Some(place) => *place = Some(tensor),
            }
        }
        let missing = found.iter().zip(&self.inputs).find(|(t, _)| t.is_none());
        if let Some((_, field)) = missing {
            let m =
                format!("the input `{}` is missing: the model takes {}", field.name, listed(&self.inputs));
            return Err(Error::wrong("inputs", m));
        }
        Ok(found.into_iter().flatten().collect())
    }

    /// The place of an output.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn output(&self, name: &str) -> Result<usize, Error> {
        self.outputs.iter().position(|f| f.name == name).ok_or_else(|| {
            let m = format!("the model has no output `{name}`: it gives {}", listed(&self.outputs));
            Error::wrong("outputs", m)
        })
    }

    /// Whether the first dimension of everything is left open, as it must be where requests share a run. It is not enough:
    /// what is open may be a length in time ([`crate::batch::probe`] looks).
    pub fn may_batch(&self) -> bool {
        let open = |f: &Field| f.shape.first() == Some(&DYNAMIC);
        !self.inputs.is_empty() && self.inputs.iter().all(open) && self.outputs.iter().all(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, datatype: DataType, shape: &[i64]) -> Field {
        Field { name: name.to_owned(), datatype, shape: shape.to_vec() }
    }

    fn input(name: &str, datatype: DataType, shape: &[i64]) -> Input<'static> {
        let n = shape.iter().product::<i64>() as usize * datatype.size().unwrap();
        let tensor = Tensor::new(datatype, shape.to_vec(), vec![0; n].into()).unwrap();
        Input { name: name.to_owned().into(), tensor }
    }

    fn signature() -> Signature {
        Signature {
            inputs: vec![field("x", DataType::Fp32, &[-1, 2]), field("n", DataType::Int64, &[])],
            outputs: vec![field("y", DataType::Fp32, &[-1])],
        }
    }

    #[test]
    fn inputs_come_in_any_order_and_are_bound_in_the_models() {
        let given = vec![input("n", DataType::Int64, &[]), input("x", DataType::Fp32, &[3, 2])];
        let bound = signature().bind(given).unwrap();
        assert_eq!(bound.iter().map(Tensor::shape).collect::<Vec<_>>(), [&[3, 2][..], &[]]);
    }

    #[test]
    fn what_does_not_fit_is_named_with_what_would() {
        let (x, n) = (|| input("x", DataType::Fp32, &[3, 2]), || input("n", DataType::Int64, &[]));
        for (given, said) in [
            (vec![x()], "the input `n` is missing: the model takes x FP32[?, 2], n INT64[]"),
            (
                vec![x(), n(), input("z", DataType::Bool, &[1])],
                "the model has no input `z`: it takes x FP32[?, 2], n INT64[]",
            ),
            (vec![x(), x()], "`x` is given twice"),
            (vec![input("x", DataType::Fp64, &[3, 2]), n()], "the model takes `x` as FP32, not as FP64"),
            (
                vec![input("x", DataType::Fp32, &[3, 4]), n()],
                "the model takes `x` of shape [?, 2], not [3, 4]",
            ),
        ] {
            assert_eq!(signature().bind(given).unwrap_err().to_string(), said);
        }
        let none = signature().output("q").unwrap_err().to_string();
        assert_eq!(none, "the model has no output `q`: it gives y FP32[?]");
    }

    #[test]
    fn a_scalar_input_keeps_requests_apart() {
        assert!(!signature().may_batch());
        let open = Signature { inputs: vec![field("x", DataType::Fp32, &[-1, 2])], ..signature() };
        assert!(open.may_batch());
    }
}

//! A request out of its body.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{bare, data as elements};
use crate::datatype::DataType;
use crate::error::Error;
use crate::protocol::{Input, Request, Wanted};
use crate::tensor::Tensor;

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<OfRequest>,
    #[serde(borrow)]
    inputs: Vec<Given<'a>>,
    #[serde(default)]
    outputs: Option<Vec<Asked>>,
}

#[derive(Default, Deserialize)]
struct OfRequest {
    binary_data_output: Option<bool>,
    /// Microseconds.
    timeout: Option<u64>,
    #[serde(default)]
    entity: Option<Entity>,
}

/// A name, or a number that is one.
struct Entity(String);

impl<'de> Deserialize<'de> for Entity {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(d)? {
            serde_json::Value::String(text) => Ok(Entity(text)),
            serde_json::Value::Number(n) => Ok(Entity(n.to_string())),
            _ => Err(serde::de::Error::custom("the parameter `entity` is a text or a number")),
        }
    }
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<OfInput>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct OfInput {
    binary_data_size: Option<u64>,
    shared_memory_region: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Asked {
    name: String,
    #[serde(default)]
    parameters: Option<OfOutput>,
}

#[derive(Default, Deserialize)]
struct OfOutput {
    binary_data: Option<bool>,
    classification: Option<u64>,
    shared_memory_region: Option<serde::de::IgnoredAny>,
}

/// Reads a request. `header` is the length of the JSON, when binary elements follow it. Binary elements are not copied.
///
/// # Errors
/// What is wrong, and where.
pub fn request(body: &Bytes, header: Option<usize>) -> Result<Request<'_>, Error> {
    let length = header.unwrap_or(body.len());
    let Some((json, _)) = body.split_at_checked(length) else {
        let m = format!("the header says {length} bytes of JSON, and the body has {}", body.len());
        return Err(Error::wrong("Inference-Header-Content-Length", m));
    };
    let mut binary = body.slice(length..);
    let read = match serde_json::from_slice::<Body<'_>>(json) {
        Ok(parsed) => parsed.read(&mut binary)?,
        Err(e) => match bare::quoted(json) {
            Some(again) => match serde_json::from_slice::<Body<'_>>(&again) {
                Ok(parsed) => owned(parsed.read(&mut binary)?),
                Err(_) => return Err(unreadable(&e)),
            },
            None => return Err(unreadable(&e)),
        },
    };
    if !binary.is_empty() {
        let m = format!("{} bytes follow the elements of the last input", binary.len());
        return Err(Error::wrong("binary_data_size", m));
    }
    Ok(read)
}

fn unreadable(e: &serde_json::Error) -> Error {
    Error::invalid(format!("the body cannot be read: {e}"))
}

/// The same, of its own.
fn owned(request: Request<'_>) -> Request<'static> {
    let Request { id, inputs, outputs, binary, timeout, entity } = request;
    let own = |Input { name, tensor }: Input<'_>| Input { name: name.into_owned().into(), tensor };
    Request { id, inputs: inputs.into_iter().map(own).collect(), outputs, binary, timeout, entity }
}

impl<'a> Body<'a> {
    fn read(self, binary: &mut Bytes) -> Result<Request<'a>, Error> {
        let parameters = self.parameters.unwrap_or_default();
        let inputs = self.inputs.into_iter().map(|i| i.read(binary)).collect::<Result<_, _>>()?;
        let outputs = self.outputs.unwrap_or_default().into_iter().map(Asked::read);
        Ok(Request {
            id: self.id,
            inputs,
            outputs: outputs.collect::<Result<_, _>>()?,
            binary: parameters.binary_data_output.unwrap_or(false),
            timeout: parameters.timeout.filter(|t| *t > 0).map(Duration::from_micros),
            entity: parameters.entity.map(|e| e.0),
        })
    }
}

fn no_shared_memory(name: &str) -> Error {
    Error::wrong(name, "shared memory is not supported: send the elements, binary or as JSON")
}

impl<'a> Given<'a> {
    fn read(self, binary: &mut Bytes) -> Result<Input<'a>, Error> {
        let Given { name, shape, datatype, parameters, data } = self;
        let parameters = parameters.unwrap_or_default();
        let datatype = DataType::from_name(&datatype).ok_or_else(|| {
            let all = DataType::ALL.map(DataType::as_str).join(", ");
            Error::wrong(&*name, format!("`{datatype}` is no datatype: they are {all}"))
        })?;
        if parameters.shared_memory_region.is_some() {
            return Err(no_shared_memory(&name));
        }
        let tensor = match (parameters.binary_data_size, data) {
            (Some(size), None) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                if size > binary.len() {
                    let m = format!("`binary_data_size` is {size}, and {} bytes are left", binary.len());
                    return Err(Error::wrong(&*name, m));
                }
                Tensor::new(datatype, shape, binary.split_to(size))
            }
            (None, Some(data)) => elements::read(datatype, shape, data.get()),
            (Some(_), Some(_)) => Err(Error::invalid("both `data` and `binary_data_size` are given")),
            (None, None) => Err(Error::invalid("neither `data` nor `binary_data_size` is given")),
        };
        // Where it was is known here.
        let tensor = tensor.map_err(|e| match e {
            Error::Invalid { param: None, message } => {
                Error::wrong(&*name, format!("input `{name}`: {message}"))
            }
            other => other,
        })?;
        Ok(Input { name, tensor })
    }
}

impl Asked {
    fn read(self) -> Result<Wanted, Error> {
        let parameters = self.parameters.unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            return Err(no_shared_memory(&self.name));
        }
        if parameters.classification.is_some_and(|n| n > 0) {
            let m = "classification is not supported: ask for the tensor and sort it";
            return Err(Error::wrong(self.name, m));
        }
        Ok(Wanted { name: self.name, binary: parameters.binary_data })
    }
}

//! The Open Inference Protocol over gRPC: its messages ([`messages`]) as requests and answers.
//!
//! Elements come raw, in the tensor's own form, or typed; an answer is raw when its request was, or when an output has no typed
//! form (FP16). An FP16 cannot come typed.

pub mod messages;

use std::time::Duration;

use bytes::Bytes;

use super::{Answer, Input, Request, Wanted};
use crate::datatype::DataType;
use crate::error::Error;
use crate::tensor::Tensor;
use messages::{
    Choice, Contents, InferInput, InferOutput, InferParameter, ModelInferRequest, ModelInferResponse,
};

/// Reads a request. The flag says that its elements came raw.
///
/// # Errors
/// What is wrong, and where.
pub fn request(m: ModelInferRequest) -> Result<(Request<'static>, bool), Error> {
    let raw = !m.raw_input_contents.is_empty();
    if raw && m.raw_input_contents.len() != m.inputs.len() {
        let said = format!("{} raw contents for {} inputs", m.raw_input_contents.len(), m.inputs.len());
        return Err(Error::wrong("raw_input_contents", said));
    }
    let mut contents = m.raw_input_contents.into_iter();
    let inputs = m.inputs.into_iter().map(|i| input(i, contents.next())).collect::<Result<_, _>>()?;
    let wanted = |o: messages::RequestedOutput| {
        if matches!(o.parameters.get("classification"), Some(p) if p.int() != Some(0)) {
            let m = "classification is not supported: ask for the tensor and sort it";
            return Err(Error::wrong(o.name, m));
        }
        Ok(Wanted { name: o.name, binary: None })
    };
    let outputs = m.outputs.into_iter().map(wanted).collect::<Result<_, _>>()?;
    let timeout =
        m.parameters.get("timeout").and_then(InferParameter::int).and_then(|t| u64::try_from(t).ok());
    let timeout = timeout.filter(|t| *t > 0).map(Duration::from_micros);
    let entity = m.parameters.get("entity").and_then(InferParameter::text);
    let id = Some(m.id).filter(|id| !id.is_empty());
    Ok((Request { id, inputs, outputs, binary: true, timeout, entity }, raw))
}

fn input(i: InferInput, raw: Option<Bytes>) -> Result<Input<'static>, Error> {
    let InferInput { name, datatype, shape, contents, parameters } = i;
    if parameters.contains_key("shared_memory_region") {
        return Err(Error::wrong(name, "shared memory is not supported: send the elements"));
    }
    let datatype = DataType::from_name(&datatype)
        .ok_or_else(|| Error::wrong(&name, format!("`{datatype}` is no datatype")))?;
    let tensor = match (raw, contents) {
        (Some(raw), None) => Tensor::new(datatype, shape, raw),
        (None, contents) => typed(datatype, shape, contents.unwrap_or_default()),
        (Some(_), Some(_)) => Err(Error::invalid("both raw and typed contents are given")),
    };
    let tensor = tensor.map_err(|e| match e {
        Error::Invalid { param: None, message } => Error::wrong(&name, format!("input `{name}`: {message}")),
        other => other,
    })?;
    Ok(Input { name: name.into(), tensor })
}

fn typed(datatype: DataType, shape: Vec<i64>, c: Contents) -> Result<Tensor, Error> {
    macro_rules! narrow {
        ($from:expr, $type:ty) => {{
            let one = |x| <$type>::try_from(x).map_err(|_| Error::invalid(format!("{x} is no {datatype}")));
            Tensor::of(datatype, shape, $from.into_iter().map(one).collect::<Result<Vec<$type>, _>>()?)
        }};
    }
    match datatype {
        DataType::Bool => {
            Tensor::of(datatype, shape, c.bool_contents.into_iter().map(u8::from).collect::<Vec<u8>>())
        }
        DataType::Uint8 => narrow!(c.uint_contents, u8),
        DataType::Uint16 => narrow!(c.uint_contents, u16),
        DataType::Uint32 => Tensor::of(datatype, shape, c.uint_contents),
        DataType::Uint64 => Tensor::of(datatype, shape, c.uint64_contents),
        DataType::Int8 => narrow!(c.int_contents, i8),
        DataType::Int16 => narrow!(c.int_contents, i16),
        DataType::Int32 => Tensor::of(datatype, shape, c.int_contents),
        DataType::Int64 => Tensor::of(datatype, shape, c.int64_contents),
        DataType::Fp16 => Err(Error::invalid("FP16 has no typed contents: send it raw")),
        DataType::Fp32 => Tensor::of(datatype, shape, c.fp32_contents),
        DataType::Fp64 => Tensor::of(datatype, shape, c.fp64_contents),
        DataType::Bytes => Tensor::of_strings(shape, c.bytes_contents),
    }
}

fn contents(t: &Tensor) -> Result<Contents, Error> {
    let mut c = Contents::default();
    macro_rules! wide {
        ($type:ty) => {
            t.values::<$type>()?.iter().map(|x| (*x).into()).collect()
        };
    }
    match t.datatype() {
        DataType::Bool => c.bool_contents = t.data().iter().map(|b| *b != 0).collect(),
        DataType::Uint8 => c.uint_contents = wide!(u8),
        DataType::Uint16 => c.uint_contents = wide!(u16),
        DataType::Uint32 => c.uint_contents = wide!(u32),
        DataType::Uint64 => c.uint64_contents = wide!(u64),
        DataType::Int8 => c.int_contents = wide!(i8),
        DataType::Int16 => c.int_contents = wide!(i16),
        DataType::Int32 => c.int_contents = wide!(i32),
        DataType::Int64 => c.int64_contents = wide!(i64),
        DataType::Fp16 => return Err(Error::Defect("FP16 has no typed contents".to_owned())),
        DataType::Fp32 => c.fp32_contents = wide!(f32),
        DataType::Fp64 => c.fp64_contents = wide!(f64),
        DataType::Bytes => c.bytes_contents = t.strings().map(Bytes::copy_from_slice).collect(),
    }
    Ok(c)
}

/// Writes an answer, raw if its request was.
///
/// # Errors
/// A defect of ours.
pub fn answer(answer: &Answer<'_>, raw: bool) -> Result<ModelInferResponse, Error> {
    let raw = raw || answer.outputs.iter().any(|(_, t, _)| t.datatype() == DataType::Fp16);
    let mut m = ModelInferResponse {
        model_name: answer.model.to_owned(),
        model_version: answer.version.to_owned(),
        id: answer.id.unwrap_or_default().to_owned(),
        ..ModelInferResponse::default()
    };
    for (name, tensor, _) in &answer.outputs {
        let contents = if raw { None } else { Some(contents(tensor)?) };
        if raw {
            m.raw_output_contents.push(tensor.data().clone());
        }
        let (name, datatype) = ((*name).to_owned(), tensor.datatype().as_str().to_owned());
        let shape = tensor.shape().to_vec();
        m.outputs.push(InferOutput { name, datatype, shape, contents, ..InferOutput::default() });
    }
    Ok(m)
}

impl InferParameter {
    /// A parameter that is a text.
    pub fn of_text(text: impl Into<String>) -> Self {
        InferParameter { choice: Some(Choice::String(text.into())) }
    }

    fn text(&self) -> Option<String> {
        match &self.choice {
            Some(Choice::String(text)) => Some(text.clone()),
            Some(Choice::Int64(n)) => Some(n.to_string()),
            Some(Choice::Uint64(n)) => Some(n.to_string()),
            _ => None,
        }
    }

    fn int(&self) -> Option<i64> {
        match self.choice {
            Some(Choice::Int64(n)) => Some(n),
            Some(Choice::Uint64(n)) => i64::try_from(n).ok(),
            _ => None,
        }
    }
}

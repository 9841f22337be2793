//! What crosses the wire: the Open Inference Protocol v2 with binary tensors ([`v2`]) and over gRPC ([`grpc`]), and MLflow's scoring ([`scoring`]).
//!
//! Pure functions over bytes. What is wrong is said with the place in the body and with what would be right.

use std::borrow::Cow;
use std::time::Duration;

use crate::tensor::Tensor;

pub mod grpc;
pub mod scoring;
pub mod v2;

/// An input as a request names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Input<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its elements.
    pub tensor: Tensor,
}

/// An output that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// Whether it is to be binary; nothing leaves it to the request.
    pub binary: Option<bool>,
}

/// A request for a prediction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request<'a> {
    /// Comes back in the answer.
    pub id: Option<String>,
    /// What is given.
    pub inputs: Vec<Input<'a>>,
    /// What is asked for; all of it when empty.
    pub outputs: Vec<Wanted>,
    /// Whether outputs are binary that say nothing of it.
    pub binary: bool,
    /// How long the caller waits.
    pub timeout: Option<Duration>,
    /// Whom the prediction is about: a rollout answers the same one by the same version.
    pub entity: Option<String>,
}

/// An answer, before it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<'a> {
    /// The model that was asked.
    pub model: &'a str,
    /// The version that answered.
    pub version: &'a str,
    /// The request's.
    pub id: Option<&'a str>,
    /// Name, elements, and whether they are binary.
    pub outputs: Vec<(&'a str, Tensor, bool)>,
}

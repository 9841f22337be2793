//! Predictive models: typed tensors, the protocols that carry them, and what brings requests to a model and answers back.
//!
//! A request is decoded into [`Tensor`]s ([`protocol`]), held to the model's [`Signature`], put beside others in a batch
//! ([`batch`]), run by a [`Backend`]'s model, and answered by the version that is served ([`served`]). The codecs are pure
//! functions over bytes; engines fit [`Backend`] and are known to the binary alone.
//!
//! Who looks at answers afterwards is an [`observe::Observer`].
//!
//! Never here: sockets, status codes, files other than those a backend is told to load.

pub mod backend;
pub mod batch;
pub mod captured;
mod datatype;
mod error;
pub mod observe;
pub mod protocol;
pub mod served;
mod signature;
pub mod tabular;
mod tensor;

pub use backend::{Artifact, Backend, LoadSettings, Metadata, Model};
pub use datatype::DataType;
pub use error::Error;
pub use served::Models;
pub use signature::{DYNAMIC, Field, Signature};
pub use tensor::{Strings, Tensor, elements};

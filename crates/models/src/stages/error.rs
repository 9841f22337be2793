//! Failures of this crate as those of a stage: a code, a sentence, and whether another try makes sense.

use std::time::Duration;

use contract::{Code, Error, RetryHint};

use crate::gate::seal::SealError;
use crate::{evaluate, train};

/// After how long another try makes sense, where one does.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn trained(e: &train::Error) -> Error {
    let (code, retry) = match e {
        train::Error::NoWorker { .. } => (Code::WorkerCrashed, RetryHint::No),
        train::Error::WorkerDied { .. } => (Code::WorkerCrashed, RetryHint::After(PAUSE)),
        train::Error::Memory { .. } | train::Error::TooMany { .. } => (Code::TooLarge, RetryHint::No),
        train::Error::Cancelled => (Code::Cancelled, RetryHint::No),
        train::Error::Column { .. } | train::Error::Table(_) | train::Error::TooFew { .. } => {
            (Code::InvalidRequest, RetryHint::No)
        }
        _ => (Code::Internal, RetryHint::No),
    };
    Error::new(code, format!("cannot {e}")).retry(retry)
}

pub(super) fn evaluated(e: &evaluate::Error) -> Error {
    let text = e.to_string();
    let text = text.strip_prefix("evaluate: ").unwrap_or(&text);
    Error::new(Code::InvalidRequest, format!("the model cannot be evaluated: {text}"))
}

pub(super) fn predicted(e: &predict::Error) -> Error {
    Error::new(Code::InvalidRequest, format!("the model cannot be asked: {e}"))
}

pub(super) fn kept(e: crate::Error) -> Error {
    let code = if e.refused().is_some() { Code::InvalidRequest } else { Code::StorageUnavailable };
    let retry = if e.refused().is_some() { RetryHint::No } else { RetryHint::After(PAUSE) };
    Error::new(code, format!("the registry says: {e}")).retry(retry)
}

pub(super) fn stored(e: store::Error) -> Error {
    kept(e.into())
}

pub(super) fn sealed(e: &SealError) -> Error {
    Error::new(Code::Internal, format!("cannot {e}"))
}

pub(super) fn crashed(e: &pipeline::task::Crashed) -> Error {
    Error::new(Code::Internal, format!("{e}; this is a defect"))
}

pub(super) fn written(e: &serde_json::Error) -> Error {
    Error::new(Code::Internal, format!("a record cannot be written: {e}; this is a defect"))
}

pub(super) fn untracked() -> Error {
    Error::new(Code::Internal, "nobody notes runs here: start the pipeline by `forebay run` or by a server")
}

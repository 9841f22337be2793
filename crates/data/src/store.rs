//! Errors of the layers below, as ours.

use datafusion::error::DataFusionError;
use deltalake::DeltaTableError;

use crate::Error;

/// An object store's error.
pub(crate) fn failed(doing: &'static str, error: &object_store::Error) -> Error {
    Error::Storage { doing, why: root_cause(error) }
}

/// A table's error: of its store, or of what is in it.
pub(crate) fn table(doing: &'static str, dataset: &str, error: &DeltaTableError) -> Error {
    match error {
        DeltaTableError::ObjectStore { .. } | DeltaTableError::Io { .. } => {
            Error::Storage { doing, why: root_cause(error) }
        }
        _ if is_io(error) => Error::Storage { doing, why: root_cause(error) },
        _ => Error::Table { doing, dataset: dataset.to_owned(), why: root_cause(error) },
    }
}

/// A query engine's error.
pub(crate) fn query(doing: &'static str, error: &DataFusionError) -> Error {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(why) => Error::Memory { doing, why: why.clone() },
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
            Error::Storage { doing, why: root_cause(error) }
        }
        _ => Error::Query(root_cause(error)),
    }
}

fn chain<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |e| e.source())
}

fn is_io(error: &(dyn std::error::Error + 'static)) -> bool {
    chain(error).any(|e| e.is::<std::io::Error>() || e.is::<object_store::Error>())
}

/// The message, and that of the cause below all others when the message does not hold it; without the call stack that some layers
/// put behind theirs.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let top = error.to_string();
    let whole = match chain(error).last().map(ToString::to_string) {
        Some(cause) if !top.contains(&cause) => format!("{top}: {cause}"),
        _ => top,
    };
    whole.split_once("\n   0: ").map_or(whole.as_str(), |(said, _)| said).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_stack_is_told() {
        let error =
            std::io::Error::other("broken\n   0: some::frame\n             at ./x.rs:1\n   1: another\n");
        assert_eq!(root_cause(&error), "broken");
    }
}

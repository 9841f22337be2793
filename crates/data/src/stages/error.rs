//! Failures of the data layer as those of a stage. What may quote rows is in the detail and in the stage's log, and in no
//! record.

use std::time::Duration;

use contract::RetryHint;

use crate::Error;

/// After how long another try makes sense, where one does.
const PAUSE: Duration = Duration::from_millis(500);

/// A failure as the run is told of it.
pub(super) fn failed(error: Error) -> contract::Error {
    let code = error.code();
    let retry = match &error {
        Error::Conflict { .. } | Error::Storage { .. } => RetryHint::After(PAUSE),
        _ => RetryHint::No,
    };
    let own = match &error {
        // A value that does not fit is quoted in the problem; its place is not.
        Error::Source { at, problem, remedy } => {
            let message = format!("cannot read {at} ({remedy}); the stage's log says what is there");
            contract::Error::new(code, message).detail(problem.clone())
        }
        _ => contract::Error::new(code, format!("cannot {error}")),
    };
    own.retry(retry)
}

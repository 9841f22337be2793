//! Panics that are no defect of this program and that somebody below has caught: their text is not shown.
//!
//! The writer of Delta tables gives up a file whose disk is full by ending an upload that has ended, and catches the panic that comes
//! of it; its kernel waits for tasks of a runtime that is being shut down when a command is stopped. In both cases the caller gets
//! the error that there was. Every other panic is told as ever.

use std::panic;

/// Where such panics come from, and what they say.
const CAUGHT: [(&str, &str); 2] =
    [("/object_store-", "Already shut down"), ("/buoyant_kernel_engine-", "has crashed")];

/// Lets panics that are caught below pass in silence. Once, before anything runs.
pub(crate) fn quiet_those_that_are_caught() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().map_or("", panic::Location::file);
        if is_caught(file, info.payload_as_str().unwrap_or_default()) {
            tracing::debug!(file, "a library caught its own panic");
        } else {
            tell(info);
        }
    }));
}

fn is_caught(file: &str, said: &str) -> bool {
    CAUGHT.iter().any(|(from, words)| file.contains(from) && said.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_panics_that_libraries_catch_themselves_are_not_told() {
        let registry = "registry/src/index";
        assert!(is_caught(&format!("{registry}/object_store-0.13.2/src/buffered.rs"), "Already shut down"));
        let executor = format!("{registry}/buoyant_kernel_engine-0.28.0/src/executor.rs");
        assert!(is_caught(&executor, "TokioMultiThreadExecutor has crashed: RecvError"));
        assert!(!is_caught("crates/data/src/lib.rs", "Already shut down"));
        assert!(!is_caught(&executor, "index out of bounds"));
    }
}

//! What cannot be computed: cases that a caller can act on. Messages fit "failed to …".

/// A failure of this crate. Messages fit "failed to …".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to compare, or too little of it.
    #[error("compare {what}: it holds {has} usable values and needs {needs}")]
    TooFew {
        /// Which side, or which group.
        what: &'static str,
        /// What there is.
        has: u64,
        /// What is needed.
        needs: u64,
    },
    /// Two things that belong together are not of one length.
    #[error("pair {what}: {left} and {right} are not of one length")]
    Lengths {
        /// What was to be paired.
        what: &'static str,
        /// How many there are of the first.
        left: usize,
        /// How many there are of the second.
        right: usize,
    },
    /// A value that the formula is not defined for.
    #[error("use {value} as {what}: {why}")]
    Value {
        /// What the value was for.
        what: &'static str,
        /// The value.
        value: f64,
        /// What is allowed.
        why: &'static str,
    },
    /// Two summaries that were not made alike: other edges, other categories, other settings.
    #[error("put {what} together: {why}")]
    Unlike {
        /// What was to be merged or compared.
        what: &'static str,
        /// How they differ.
        why: &'static str,
    },
    /// A window whose labels are not all there is not compared with anything.
    #[error("compare a window before its labels are in: {labelled} of {predicted} predictions are labelled")]
    Immature {
        /// Predictions with a label.
        labelled: u64,
        /// Predictions.
        predicted: u64,
    },
    /// A setting that contradicts itself or another.
    #[error("take the setting `{name}`: {why}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What is wrong, and what can be.
        why: String,
    },
}

/// Refuses two slices that are not of one length.
pub(crate) fn same_length(what: &'static str, left: usize, right: usize) -> Result<(), Error> {
    if left == right { Ok(()) } else { Err(Error::Lengths { what, left, right }) }
}

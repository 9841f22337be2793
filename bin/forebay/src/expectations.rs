//! Files of expectations of the project.

use std::path::Path;

use data::expect::{Suite, Written};

use crate::config;
use crate::config::problem::Problem;

/// Why a file gives no expectations.
#[derive(Debug)]
pub enum Wrong {
    /// It cannot be read.
    Unread(std::io::Error),
    /// It can, and this is wrong with it.
    Problems {
        /// The text of the file.
        source: String,
        /// Everything, by place.
        problems: Vec<Problem>,
    },
}

/// Reads a file of expectations.
///
/// # Errors
/// [`Wrong`], with every problem of the file.
pub fn load(file: &Path) -> Result<Suite, Wrong> {
    let bytes = config::read(file).map_err(Wrong::Unread)?;
    let source = String::from_utf8(bytes)
        .map_err(|e| Wrong::Unread(std::io::Error::new(std::io::ErrorKind::InvalidData, e)))?;
    match Written::parse(&source) {
        Ok(written) => Ok(written.suite),
        Err(problems) => Err(Wrong::Problems { source, problems }),
    }
}

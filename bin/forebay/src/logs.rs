//! Where log lines go: to stderr, and to nowhere when that cannot be written.

use std::io::{self, Write};

/// Standard error that never fails: a log on a full disk, or a pipe that nobody reads any more, is no reason to stop. (What a
/// logger cannot write it says by `eprintln!`, which panics there.)
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(line);
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

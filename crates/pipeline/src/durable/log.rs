//! What an attempt says: a file of lines, each with its time, bounded. What is too much is left out of the middle and counted. What
//! says nothing leaves no file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::lineage::Lineage;
use contract::{Clock, RunId, StageLog, StageName};
use parking_lot::Mutex;

use super::folders;

/// The bytes that are kept of the beginning, and of the end.
const HEAD: usize = 4 << 20;
const TAIL: usize = 1 << 20;
/// Things that lineage names.
const THINGS: usize = 1_000;
/// The bytes of one line.
const LINE: usize = 8 << 10;

/// The log of an attempt. What was left out is written when it is dropped.
pub(super) struct Log {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Lines,
    written: usize,
    tail: VecDeque<String>,
    tail_bytes: usize,
    left_out: u64,
    progress: Option<(u64, Option<u64>)>,
    lineage: Lineage,
}

/// The file of a log.
enum Lines {
    /// Nothing was said yet.
    None(PathBuf),
    Written(File),
    /// It cannot be made.
    Failed,
}

impl Lines {
    fn write(&mut self, text: &str) {
        if let Lines::None(path) = self {
            let made =
                path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| File::create(&path));
            let failed = |e: &_| tracing::warn!(file = %path.display(), error = %e, "failed to begin a log");
            *self = made.inspect_err(failed).map_or(Lines::Failed, Lines::Written);
        }
        if let Lines::Written(file) = self {
            // A disk that is full says so elsewhere.
            let _ = file.write_all(text.as_bytes());
        }
    }
}

impl Log {
    /// A log in that file, which the first line makes. One that cannot be written is none: what a stage says is not what it does.
    pub(super) fn new(path: PathBuf, clock: Arc<dyn Clock>) -> Log {
        let inner = Inner {
            file: Lines::None(path),
            written: 0,
            tail: VecDeque::new(),
            tail_bytes: 0,
            left_out: 0,
            progress: None,
            lineage: Lineage::default(),
        };
        Log { clock, inner: Mutex::new(inner) }
    }

    /// What the attempt said that it made of what.
    pub(super) fn said(&self) -> Lineage {
        self.inner.lock().lineage.clone()
    }

    /// How far the attempt is.
    pub(super) fn come(&self) -> Option<(u64, Option<u64>)> {
        self.inner.lock().progress
    }
}

impl StageLog for Log {
    fn line(&self, line: &str) {
        let mut end = line.len().min(LINE);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let cut = line.get(..end).unwrap_or_default();
        let more = if end < line.len() { " …" } else { "" };
        let text = format!("{} {}{more}\n", self.clock.wall().rfc3339(), cut.replace(['\n', '\r'], " "));
        let mut inner = self.inner.lock();
        if inner.written + text.len() <= HEAD {
            inner.written += text.len();
            inner.file.write(&text);
            return;
        }
        inner.written = HEAD;
        inner.tail_bytes += text.len();
        inner.tail.push_back(text);
        while inner.tail_bytes > TAIL {
            let Some(first) = inner.tail.pop_front() else { break };
            inner.tail_bytes -= first.len();
            inner.left_out += 1;
        }
    }

    fn progress(&self, done: u64, of: Option<u64>) {
        self.inner.lock().progress = Some((done, of));
    }

    fn lineage(&self, lineage: Lineage) {
        let mut inner = self.inner.lock();
        // What is more than a fact holds is not gathered.
        if inner.lineage.inputs.len() <= THINGS && inner.lineage.outputs.len() <= THINGS {
            inner.lineage.add(lineage);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        if inner.left_out > 0 {
            inner.file.write(&format!("… {} lines are left out …\n", inner.left_out));
        }
        inner.tail.iter().for_each(|line| inner.file.write(line));
    }
}

/// The logs of a stage's attempts, the first first, from that byte of all of them on; and where the next byte is.
///
/// # Errors
/// The system's.
pub fn read(
    root: &Path,
    run: RunId,
    stage: &StageName,
    attempts: u32,
    from: u64,
) -> std::io::Result<(String, u64)> {
    let (mut at, mut text) = (0_u64, Vec::new());
    for attempt in 1..=attempts {
        let bytes = match std::fs::read(folders::log(root, run, stage, attempt)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        let skip = usize::try_from(from.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        text.extend_from_slice(bytes.get(skip..).unwrap_or_default());
        at += bytes.len() as u64;
    }
    Ok((String::from_utf8_lossy(&text).into_owned(), at.max(from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{RequestId, UnixMillis};

    #[test]
    fn what_is_too_much_is_left_out_of_the_middle_and_counted() {
        let root = tempfile::tempdir().unwrap();
        let run = RunId::of(RequestId::from_parts(UnixMillis(1), 7));
        let stage = StageName::from("a/b");
        let path = folders::log(root.path(), run, &stage, 1);
        let log = Log::new(path, Arc::new(contract::SystemClock::default()));
        for n in 0..100_000 {
            log.line(&format!("{n} {}", "x".repeat(80)));
        }
        log.line(&"é".repeat(LINE));
        drop(log);
        let (text, end) = read(root.path(), run, &stage, 1, 0).unwrap();
        assert!(text.len() < HEAD + TAIL + 3 * LINE && end == text.len() as u64, "{}", text.len());
        assert!(text.contains(" 0 xx") && text.contains(" 99999 xx") && !text.contains(" 70000 xx"));
        assert!(text.contains("lines are left out"));
        assert_eq!(read(root.path(), run, &stage, 1, end - 1).unwrap(), ("\n".to_owned(), end));
    }
}

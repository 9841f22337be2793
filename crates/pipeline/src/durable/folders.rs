//! Where an attempt leaves its files: a folder of its own, and its log beside it. Names come from stages' names and are never
//! paths.

use std::path::{Path, PathBuf};

use contract::{RunId, StageName};

/// What holds everything of a run.
pub(super) fn of_run(root: &Path, run: RunId) -> PathBuf {
    root.join(run.to_string())
}

/// A name that is a file's: what may not stand in one is replaced, and told apart by a hash.
fn plain(stage: &StageName) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let text: String = stage.as_str().chars().map(|c| if allowed(c) { c } else { '_' }).take(80).collect();
    if text == stage.as_str() {
        return text;
    }
    let hash = blake3::hash(stage.as_str().as_bytes()).to_hex();
    format!("{text}.{}", hash.get(..8).unwrap_or_default())
}

/// The log of an attempt.
pub(super) fn log(root: &Path, run: RunId, stage: &StageName, attempt: u32) -> PathBuf {
    of_run(root, run).join(format!("{}.{attempt}.log", plain(stage)))
}

/// The folder of an attempt: removed when this is dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// An empty one: what an attempt of that number left that died is gone.
    pub(super) fn new(root: &Path, run: RunId, stage: &StageName, attempt: u32) -> std::io::Result<Folder> {
        let path = of_run(root, run).join(format!("{}.{attempt}", plain(stage)));
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        std::fs::create_dir_all(&path)?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), error = %e, "failed to remove the folder of a stage");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stages_name_is_never_a_path_and_different_names_are_different_files(a in ".{1,30}", b in ".{1,30}") {
            let (x, y) = (StageName::from(a.as_str()), StageName::from(b.as_str()));
            for name in [plain(&x), plain(&y)] {
                prop_assert!(!name.contains(['/', '\\', '\0']) && !name.starts_with('.') && name != "..");
            }
            prop_assert_eq!(plain(&x) == plain(&y), a == b);
        }
    }
}

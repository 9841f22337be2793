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

/// Removes the folders of all attempts at a run, none of which is under way: what those left that died. Logs stay.
pub(super) fn clear(root: &Path, run: RunId) -> std::io::Result<()> {
    for path in folders(&of_run(root, run))? {
        gone(std::fs::remove_dir_all(path))?;
    }
    Ok(())
}

/// Removes the folders of all attempts at all runs, none of which is under way. Logs stay.
pub(super) fn clear_all(root: &Path) -> std::io::Result<()> {
    for run in folders(root)? {
        for path in folders(&run)? {
            gone(std::fs::remove_dir_all(path))?;
        }
    }
    Ok(())
}

/// Removes all that is left of a run.
pub(super) fn remove(root: &Path, run: RunId) -> std::io::Result<()> {
    gone(std::fs::remove_dir_all(of_run(root, run)))
}

/// The runs that left anything.
pub(super) fn runs(root: &Path) -> std::io::Result<Vec<RunId>> {
    let name = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
    Ok(folders(root)?.iter().filter_map(name).collect())
}

/// What is not there is removed, whoever did it.
fn gone(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The folders in a folder; none where there is none.
fn folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let read = match std::fs::read_dir(folder) {
        Ok(read) => read,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in read {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// The folder of an attempt, which is there if the attempt makes it: removed when this is dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// A place with nothing there: what an attempt of that number left that died is gone.
    pub(super) fn new(root: &Path, run: RunId, stage: &StageName, attempt: u32) -> std::io::Result<Folder> {
        let path = of_run(root, run).join(format!("{}.{attempt}", plain(stage)));
        gone(std::fs::remove_dir_all(&path))?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = gone(std::fs::remove_dir_all(&self.0)) {
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

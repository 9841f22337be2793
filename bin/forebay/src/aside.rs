//! Where a server puts what it needs for a while: rows that are fetched before they are added, and what does not fit into memory.
//!
//! Each process has a folder of its own below `.forebay/tmp`, which goes when it ends. What one left that was killed is removed by the
//! next: a process holds the lock on a file beside its folder for as long as it lives, wherever it runs.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// What the name of a lock ends in.
const LOCK: &str = "lock";

/// A folder of this process, with its lock.
#[derive(Debug)]
struct Own {
    folder: PathBuf,
    _lock: File,
}

/// Those of this process, by project.
static OWN: LazyLock<Mutex<HashMap<PathBuf, Own>>> = LazyLock::new(Mutex::default);

fn place(project: &Path) -> PathBuf {
    project.join(".forebay/tmp")
}

/// The folder of this process in a project, made when it is first asked for.
///
/// # Errors
/// The disk's.
pub(crate) fn folder(project: &Path) -> io::Result<PathBuf> {
    let mut all = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(own) = all.get(project).filter(|own| own.folder.is_dir()) {
        return Ok(own.folder.clone());
    }
    let own = made(&place(project))?;
    let folder = own.folder.clone();
    all.insert(project.to_owned(), own);
    Ok(folder)
}

fn made(place: &Path) -> io::Result<Own> {
    fs::create_dir_all(place)?;
    loop {
        let mut name = [0; 8];
        store::os_random(&mut name).map_err(io::Error::other)?;
        let folder = place.join(format!("{}-{:016x}", std::process::id(), u64::from_le_bytes(name)));
        let lock = folder.with_extension(LOCK);
        let file = OpenOptions::new().write(true).create_new(true).open(&lock)?;
        // Somebody who removes what the dead left may have come between: then it is not there any more.
        if file.try_lock().is_ok() && lock.exists() {
            fs::create_dir(&folder)?;
            return Ok(Own { folder, _lock: file });
        }
    }
}

/// Removes what processes left that are dead. How many folders it were.
///
/// # Errors
/// The disk's: what was not reached is removed another time.
pub(crate) fn sweep(project: &Path) -> io::Result<usize> {
    let found = match fs::read_dir(place(project)) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let mut removed = 0;
    for entry in found {
        let path = entry?.path();
        // A folder is always behind its lock.
        if path.extension().is_none_or(|e| e != LOCK) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_err() {
            continue;
        }
        match fs::remove_dir_all(path.with_extension("")) {
            Ok(()) => removed += 1,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        fs::remove_file(&path)?;
    }
    Ok(removed)
}

/// Removes the folder of this process in a project.
pub(crate) fn end(project: &Path) {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner).remove(project);
    if let Some(own) = own {
        // What is in the way is removed by the next process.
        let _ = fs::remove_dir_all(&own.folder);
        let _ = fs::remove_file(own.folder.with_extension(LOCK));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_left_is_removed_and_what_a_living_one_holds_is_not() {
        let project = tempfile::tempdir().unwrap();
        assert_eq!(sweep(project.path()).unwrap(), 0);
        let own = folder(project.path()).unwrap();
        assert_eq!(folder(project.path()).unwrap(), own, "one for each process");
        // A lock that nobody holds any more.
        let dead = place(project.path()).join("7-00");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("rows.jsonl"), "{}").unwrap();
        fs::write(dead.with_extension(LOCK), "").unwrap();
        assert_eq!(sweep(project.path()).unwrap(), 1);
        assert!(!dead.exists() && own.is_dir());
        end(project.path());
        assert_eq!(fs::read_dir(place(project.path())).unwrap().count(), 0);
    }
}

//! Files that stages leave: each once, under the blake3 of its content, in a folder.
//!
//! ```text
//! FOLDER/ab/abcdef…   a content, whole and never changed: it is written aside, synced, then renamed
//! FOLDER/tmp/…        what is being written, locked by whoever writes it
//! FOLDER/lock         held shared while a content is found to be kept, alone while one is placed or removed
//! ```
//!
//! Nothing names a content before it is whole on disk, and what is read is compared with its name: a torn or damaged file is set
//! aside and missed, never given. A content goes when nothing that lives names it *and* nobody has put it for a while
//! ([`Artifacts::gc`]), so that a stage that has just put one has the time to say so. Many processes may share the folder.
//!
//! Everything here waits for the disk: call it aside ([`crate::task::reading`]).

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use contract::{Code, Error, UnixMillis};
use serde::{Deserialize, Serialize};

/// What is read at a time.
const PIECE: usize = 256 << 10;
/// Names of one process never meet twice.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file that a stage left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it was called, below the folder it was found in; `/` between folders.
    pub name: String,
    /// The blake3 of its content: 64 hexadecimal digits.
    pub hash: String,
    /// How long it is.
    pub bytes: u64,
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Contents.
    pub files: u64,
    /// What they were long together.
    pub bytes: u64,
}

/// The folder of all contents. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Artifacts {
    folder: PathBuf,
}

impl Artifacts {
    /// In that folder, which is made when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Artifacts { folder: folder.into() }
    }

    /// Keeps what `from` gives, under `name`. It is on disk when this returns, and not collected for as long as the collections'
    /// pause from `now` on.
    ///
    /// # Errors
    /// [`Code::TooLarge`] when there is more than `at_most`; [`Code::StorageUnavailable`] when the disk does not take it;
    /// [`Code::CommandFailed`] when it cannot be read. Nothing is left of it then.
    pub fn put(
        &self,
        name: &str,
        from: &mut dyn Read,
        at_most: u64,
        now: UnixMillis,
    ) -> Result<Artifact, Error> {
        let mut aside = self.aside(now)?;
        let mut hasher = blake3::Hasher::new();
        let (mut bytes, mut piece) = (0_u64, vec![0; PIECE]);
        loop {
            let n = match from.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    return Err(Error::new(
                        Code::CommandFailed,
                        format!("an output cannot be read: {}", e.kind()),
                    ));
                }
            };
            bytes = bytes.saturating_add(n as u64);
            if bytes > at_most {
                return Err(Error::new(Code::TooLarge, "the outputs are larger than `output_at_most`"));
            }
            let read = piece.get(..n).unwrap_or_default();
            hasher.update(read);
            aside.file.write_all(read).map_err(|e| disk(&e))?;
        }
        let hash = hasher.finalize().to_hex().to_string();
        self.keep(aside, &hash, bytes, now).map_err(|e| disk(&e))?;
        Ok(Artifact { name: name.to_owned(), hash, bytes })
    }

    /// Whether there is a file of that content. It may be damaged: [`Artifacts::open`] looks into it.
    pub fn is_there(&self, hash: &str) -> bool {
        self.path(hash).is_ok_and(|path| path.is_file())
    }

    /// A content, compared with its name: it is read once before this returns.
    ///
    /// # Errors
    /// [`Code::NotFound`] when it is not there, or is not what it was; [`Code::StorageUnavailable`].
    pub fn open(&self, hash: &str) -> Result<File, Error> {
        let path = self.path(hash)?;
        let mut file = File::open(&path).map_err(|e| missing(hash, &e))?;
        let found = hash_of(&mut file).map_err(|e| disk(&e))?;
        if found != hash {
            // The next who puts it puts it whole.
            let _ = fs::remove_file(&path);
            return Err(damaged(hash));
        }
        io::Seek::rewind(&mut file).map_err(|e| disk(&e))?;
        Ok(file)
    }

    /// Writes a content to a new file, as its owner's: whoever changes that does not change what is kept.
    ///
    /// # Errors
    /// As [`Artifacts::open`].
    pub fn copy(&self, hash: &str, to: &Path) -> Result<(), Error> {
        let mut from = self.open(hash)?;
        let mut to = OpenOptions::new().write(true).create_new(true).open(to).map_err(|e| disk(&e))?;
        io::copy(&mut from, &mut to).map_err(|e| disk(&e))?;
        Ok(())
    }

    /// Removes contents that `live` does not name and that nobody has put since `before`, and what was left half written
    /// before then.
    ///
    /// # Errors
    /// [`Code::StorageUnavailable`]: what was not reached is removed another time.
    pub fn gc(&self, live: &HashSet<String>, before: UnixMillis) -> Result<Collected, Error> {
        self.collect(live, time(before)).map_err(|e| disk(&e))
    }

    /// Removes what processes left half written that are dead. How many files it were.
    ///
    /// # Errors
    /// [`Code::StorageUnavailable`]: what was not reached is removed another time.
    pub fn sweep(&self) -> Result<u64, Error> {
        let mut removed = 0;
        for (path, _) in entries(&self.folder.join("tmp")).map_err(|e| disk(&e))? {
            let Ok(file) = File::open(&path) else { continue };
            // Who writes one holds its lock; this is held until it is removed.
            if file.try_lock().is_ok() {
                removed += u64::from(remove(&path).map_err(|e| disk(&e))?);
            }
        }
        Ok(removed)
    }

    fn collect(&self, live: &HashSet<String>, before: SystemTime) -> io::Result<Collected> {
        let mut collected = Collected::default();
        for (path, _) in entries(&self.folder.join("tmp"))? {
            if is_older(&path, before)? {
                remove(&path)?;
            }
        }
        for (folder, _) in entries(&self.folder)?.into_iter().filter(|(_, n)| n.len() == 2) {
            for (path, hash) in entries(&folder)? {
                if live.contains(&hash) || !is_hash(&hash) || !is_older(&path, before)? {
                    continue;
                }
                // Somebody may put it right now: it is looked at again when nobody can. Held for one file at a time.
                let _alone = self.alone()?;
                if is_older(&path, before)? {
                    collected.bytes += fs::metadata(&path).map_or(0, |m| m.len());
                    collected.files += u64::from(remove(&path)?);
                }
            }
        }
        Ok(collected)
    }

    /// What whoever keeps a content and whoever removes one agree by, held as one of many.
    fn shared(&self) -> io::Result<File> {
        let lock = self.lock()?;
        lock.lock_shared()?;
        Ok(lock)
    }

    /// The same, held alone.
    fn alone(&self) -> io::Result<File> {
        let lock = self.lock()?;
        lock.lock()?;
        Ok(lock)
    }

    /// Held by nobody yet; given back when it is closed, be it by death.
    fn lock(&self) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(false).write(true).open(self.folder.join("lock"))
    }

    fn path(&self, hash: &str) -> Result<PathBuf, Error> {
        match hash.get(..2) {
            Some(first) if is_hash(hash) => Ok(self.folder.join(first).join(hash)),
            _ => Err(Error::new(Code::InvalidRequest, "an artifact is named by 64 hexadecimal digits")),
        }
    }

    /// Puts what was written aside in its place, unless the content is there already.
    fn keep(&self, aside: Aside, hash: &str, bytes: u64, now: UnixMillis) -> io::Result<()> {
        let mut rights = aside.file.metadata()?.permissions();
        rights.set_readonly(true);
        aside.file.set_permissions(rights)?;
        {
            let _shared = self.shared()?;
            if self.is_kept(hash, bytes, now)? {
                return Ok(());
            }
        }
        // Without the lock: it takes as long as the disk takes. Another may have put the same meanwhile, and later by its clock.
        aside.file.sync_all()?;
        let _alone = self.alone()?;
        if self.is_kept(hash, bytes, now)? { Ok(()) } else { self.place(aside, hash, now) }
    }

    /// Whether the content is there already, which counts as put from then on. With the lock.
    fn is_kept(&self, hash: &str, bytes: u64, now: UnixMillis) -> io::Result<bool> {
        let Ok(path) = self.path(hash) else { return Ok(false) };
        let kept = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(e),
        };
        let (is, now) = (kept.metadata()?, time(now));
        if is.len() != bytes {
            return Ok(false);
        }
        if is.modified()? < now {
            kept.set_modified(now)?;
        }
        Ok(true)
    }

    /// A file of its own, aside.
    fn aside(&self, now: UnixMillis) -> Result<Aside, Error> {
        let folder = self.folder.join("tmp");
        fs::create_dir_all(&folder).map_err(|e| disk(&e))?;
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{}-{n}", std::process::id(), now.0));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                // Who sweeps may have come between: then it is not there any more.
                Ok(file) if file.try_lock().is_ok() && path.exists() => {
                    return Ok(Aside { path, file, placed: false });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(disk(&e)),
            }
        }
    }

    /// With the lock, alone.
    fn place(&self, mut aside: Aside, hash: &str, now: UnixMillis) -> io::Result<()> {
        let Ok(path) = self.path(hash) else { return Err(io::ErrorKind::InvalidInput.into()) };
        let folder = path.parent().unwrap_or(&self.folder);
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            File::open(&self.folder)?.sync_all()?;
        }
        fs::rename(&aside.path, &path)?;
        aside.placed = true;
        // Not before: what is old and aside is removed.
        aside.file.set_modified(time(now))?;
        File::open(folder)?.sync_all()
    }
}

/// A file that is removed unless it was put in its place.
struct Aside {
    path: PathBuf,
    file: File,
    placed: bool,
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn hash_of(file: &mut File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
            Ok(n) => drop(hasher.update(piece.get(..n).unwrap_or_default())),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn time(at: UnixMillis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or(0))
}

/// What is in a folder, with names that are text; nothing when there is no folder.
fn entries(folder: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    let found = match fs::read_dir(folder) {
        Ok(found) => found,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(e),
    };
    let named = |e: io::Result<fs::DirEntry>| {
        let e = e?;
        Ok(e.file_name().into_string().ok().map(|name| (e.path(), name)))
    };
    found.map(named).filter_map(io::Result::transpose).collect()
}

/// Whether a file was last put before `before`; one that is gone was not.
fn is_older(path: &Path, before: SystemTime) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(m) => Ok(m.modified()? < before),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn disk(e: &io::Error) -> Error {
    Error::new(Code::StorageUnavailable, format!("the artifacts' folder cannot be used: {}", e.kind()))
}

fn missing(hash: &str, e: &io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::NotFound => {
            let m = format!("the artifact {hash} is not kept any more: run the stage again that made it");
            Error::new(Code::NotFound, m)
        }
        _ => disk(e),
    }
}

fn damaged(hash: &str) -> Error {
    let m = format!("the artifact {hash} was damaged on the disk: run the stage again that made it");
    Error::new(Code::NotFound, m)
}

#[cfg(test)]
#[path = "artifacts/tests.rs"]
mod tests;

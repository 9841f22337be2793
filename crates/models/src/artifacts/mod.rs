//! Where artifacts are: files under paths, of any size, written and read piece by piece. Each tenant has a root of its own, and no
//! path leaves it [test: no_path_leaves_its_root].

mod folder;
mod path;

use bytes::Bytes;
use contract::{BoxFuture, TenantId};

pub use folder::Folder;
pub use path::ArtifactPath;

use crate::Error;

/// The name of a tenant's root, which no other tenant's is.
pub fn root_of(tenant: &TenantId) -> String {
    let name = tenant.as_str();
    let plain =
        name.len() <= 64 && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    match plain && !name.is_empty() {
        true => format!("t-{name}"),
        false => format!("h-{}", blake3::hash(name.as_bytes()).to_hex()),
    }
}

/// Something in a folder of artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Its own name there.
    pub name: String,
    /// In bytes; `None` of a folder.
    pub bytes: Option<u64>,
}

/// An artifact that is being written. Dropped before it is finished, it leaves nothing.
pub trait ArtifactWriter: Send {
    /// Appends to it.
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), Error>>;
    /// Puts it in its place, whole, on disk. What was there before is there until then.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>>;
}

/// An artifact that is being read.
pub trait ArtifactReader: Send {
    /// Its length in bytes.
    fn bytes(&self) -> u64;
    /// The next piece; none at its end.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;
}

/// Keeps artifacts.
pub trait Artifacts: Send + Sync + std::fmt::Debug {
    /// Begins one.
    ///
    /// # Errors
    /// A path that is a folder, or whose folder is a file.
    fn create<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Box<dyn ArtifactWriter>, Error>>;
    /// Opens one; none when there is no file.
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Option<Box<dyn ArtifactReader>>, Error>>;
    /// What is in a folder, by name; nothing in one that there is not.
    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Vec<Artifact>, Error>>;
    /// Removes a file, or a folder with all that is in it. Whether there was one.
    fn remove<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<bool, Error>>;
    /// Removes what a process that died had half written. Only the one writer of the place may.
    ///
    /// # Errors
    /// A place that cannot be read or changed.
    fn clear(&self) -> Result<(), Error> {
        Ok(())
    }
}

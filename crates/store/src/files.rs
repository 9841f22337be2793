//! Files that callers leave here: their content by its hash in a folder, what is known of them in the database.
//!
//! A file belongs to a tenant, and no other can name it: the tenant is part of every question, and of the hash, so that
//! equal contents of two tenants are two contents. What a tenant holds is bounded in bytes.

use bytes::Bytes;
use contract::{BoxFuture, TenantId, UnixMillis};

use crate::Error;

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name here, which nobody can guess the next of.
    pub id: String,
    /// What it was called where it came from. Never a path of ours.
    pub name: String,
    /// What it is for, in the words of the surface.
    pub purpose: String,
    /// How long it is.
    pub bytes: u64,
    /// When it came.
    pub created_at: UnixMillis,
    /// From when on it is gone.
    pub expires_at: Option<UnixMillis>,
}

/// A page of a tenant's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePage {
    /// Only those for this.
    pub purpose: Option<String>,
    /// Those behind the file of this id, in the order of the list.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
    /// The oldest first, and not the newest.
    pub ascending: bool,
}

/// Where files are kept.
///
/// Contract: a file that was put is there after a crash; one that was deleted or has expired is not found from then on, and its
/// content goes with the last file that has it. `put` never lets a tenant hold more than its limit.
pub trait FileStore: Send + Sync + std::fmt::Debug {
    /// Keeps a file of the length that `info` says, unless the tenant would hold more than `limit` bytes; a file counts as
    /// 4 KiB at least.
    ///
    /// # Errors
    /// [`Error::FilesFull`], and those of the disk and the database.
    fn put<'a>(
        &'a self,
        tenant: &'a TenantId,
        info: &'a FileInfo,
        content: Bytes,
        limit: u64,
    ) -> BoxFuture<'a, Result<(), Error>>;
    /// What is known of a file, if it is there.
    fn get<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<FileInfo>, Error>>;
    /// A file and its content, if it is there.
    fn read<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<(FileInfo, Bytes)>, Error>>;
    /// At most `most` bytes of a file's content from `from` on, if it is there: none behind its end.
    fn read_at<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        from: u64,
        most: usize,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Error>>;
    /// Begins to write a file of the tenant piece by piece. It is not there before [`FileWriter::finish`].
    fn create<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Box<dyn FileWriter>, Error>>;
    /// What a tenant's files count for together, in bytes.
    fn held<'a>(&'a self, tenant: &'a TenantId, now: UnixMillis) -> BoxFuture<'a, Result<u64, Error>>;
    /// Removes at most `limit` files whose time is over, whosever, and the contents that only they had. How many it were.
    fn expire(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>>;
    /// A page of files, and whether there are more behind it.
    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        page: &'a FilePage,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(Vec<FileInfo>, bool), Error>>;
    /// Removes a file. Whether it was there.
    fn delete<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<bool, Error>>;
}

/// A file that is being written. Dropped, nothing is left of it.
pub trait FileWriter: Send {
    /// Adds a piece.
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), Error>>;
    /// Puts the file in place, in the stead of one of the same id, however much its tenant holds. `info.bytes` is taken from
    /// what was written.
    fn finish(self: Box<Self>, info: FileInfo) -> BoxFuture<'static, Result<(), Error>>;
}

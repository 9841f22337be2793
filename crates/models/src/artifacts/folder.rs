//! Artifacts in a local folder.
//!
//! An artifact is written beside its place and renamed, so that who reads sees a whole one. A link is never followed: nobody here
//! makes one, and one that somebody put there could lead out of the root.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use contract::{BoxFuture, TenantId};
use store::tracking::Refused;
use tokio::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Artifact, ArtifactPath, ArtifactReader, ArtifactWriter, Artifacts, root_of};
use crate::Error;

/// Read at once.
const PIECE: usize = 256 << 10;
/// Where artifacts are while they are written; no tenant's folder is called so.
const PARTS: &str = "parts";
/// Parts of one process never meet, whoever in it writes them.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A folder of artifacts, with a folder for each tenant.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// In `root`, which is made when it is needed.
    pub fn new(root: PathBuf) -> Self {
        Folder { root }
    }

    /// The place of a path, with no link on the way to it.
    async fn place(&self, tenant: &TenantId, path: &ArtifactPath) -> Result<PathBuf, Error> {
        let mut place = self.root.join(root_of(tenant));
        for name in path.as_str().split('/').filter(|n| !n.is_empty()) {
            place.push(name);
            match fs::symlink_metadata(&place).await {
                Ok(known) if known.is_symlink() => return Err(Refused::invalid("Invalid path").into()),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(place)
    }

    async fn begin(&self, tenant: &TenantId, path: &ArtifactPath) -> Result<Writer, Error> {
        if path.is_root() {
            return Err(Refused::invalid("Invalid path").into());
        }
        let place = self.place(tenant, path).await?;
        if fs::metadata(&place).await.is_ok_and(|m| m.is_dir()) {
            return Err(Refused::invalid(format!("The path '{}' is a folder", path.as_str())).into());
        }
        let parts = self.root.join(PARTS);
        fs::create_dir_all(&parts).await?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = parts.join(format!("{}-{number}", std::process::id()));
        let file = File::create(&part).await?;
        Ok(Writer { file: Some(file), part: Some(part), place })
    }

    async fn reader(&self, tenant: &TenantId, path: &ArtifactPath) -> Result<Option<Reader>, Error> {
        let place = self.place(tenant, path).await?;
        let file = match File::open(&place).await {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let known = file.metadata().await?;
        Ok(known.is_file().then(|| Reader { file, bytes: known.len() }))
    }
}

struct Writer {
    file: Option<File>,
    /// Gone once it is in its place.
    part: Option<PathBuf>,
    place: PathBuf,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(part) = self.part.take() {
            let _ = std::fs::remove_file(part);
        }
    }
}

async fn put(mut writer: Writer) -> Result<(), Error> {
    if let Some(mut file) = writer.file.take() {
        file.flush().await?;
        file.sync_all().await?;
    }
    let Some(part) = writer.part.clone() else { return Ok(()) };
    let folder = writer.place.parent().map(Path::to_owned).unwrap_or_default();
    match fs::create_dir_all(&folder).await {
        Err(e) if matches!(e.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory) => {
            return Err(Refused::invalid("A part of the path is a file").into());
        }
        other => other?,
    }
    fs::rename(&part, &writer.place).await?;
    writer.part = None;
    // The name is on disk when its folder is.
    File::open(&folder).await?.sync_all().await?;
    Ok(())
}

impl ArtifactWriter for Writer {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let Some(file) = &mut self.file {
                file.write_all(&piece).await?;
            }
            Ok(())
        })
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(put(*self))
    }
}

struct Reader {
    file: File,
    bytes: u64,
}

impl ArtifactReader for Reader {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            let mut piece = BytesMut::with_capacity(PIECE);
            let read = self.file.read_buf(&mut piece).await?;
            Ok((read > 0).then(|| piece.freeze()))
        })
    }
}

async fn list(place: &Path) -> Result<Vec<Artifact>, Error> {
    let mut entries = match fs::read_dir(place).await {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut found = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let (Ok(name), known) = (entry.file_name().into_string(), entry.metadata().await?) else { continue };
        if known.is_dir() || known.is_file() {
            found.push(Artifact { name, bytes: known.is_file().then_some(known.len()) });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Artifacts for Folder {
    fn create<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Box<dyn ArtifactWriter>, Error>> {
        Box::pin(async move { Ok(Box::new(self.begin(tenant, path).await?) as Box<dyn ArtifactWriter>) })
    }

    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Option<Box<dyn ArtifactReader>>, Error>> {
        Box::pin(async move {
            let reader = self.reader(tenant, path).await?;
            Ok(reader.map(|r| Box::new(r) as Box<dyn ArtifactReader>))
        })
    }

    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<Vec<Artifact>, Error>> {
        Box::pin(async move { list(&self.place(tenant, path).await?).await })
    }

    fn remove<'a>(
        &'a self,
        tenant: &'a TenantId,
        path: &'a ArtifactPath,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            if path.is_root() {
                return Err(Refused::invalid("Invalid path").into());
            }
            let place = self.place(tenant, path).await?;
            let removed = match fs::symlink_metadata(&place).await {
                Ok(known) if known.is_dir() => fs::remove_dir_all(&place).await,
                Ok(_) => fs::remove_file(&place).await,
                Err(e) => Err(e),
            };
            match removed {
                Ok(()) => Ok(true),
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
                Err(e) => Err(e.into()),
            }
        })
    }

    fn clear(&self) -> Result<(), Error> {
        match std::fs::remove_dir_all(self.root.join(PARTS)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }
}

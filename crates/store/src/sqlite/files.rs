//! [`FileStore`] on SQLite and a folder: `files/HASH`, where the hash is of tenant and content.
//!
//! A content is whole on disk before a row names it, and goes when no row does. Who dies in between leaves a content that
//! nobody names: the next to open the store removes it. One process writes, and within it one change of files at a time.

use std::collections::HashSet;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use contract::{BoxFuture, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tokio::sync::Mutex;

use super::{Database, column, count};
use crate::Error;
use crate::files::{FileInfo, FilePage, FileStore, FileWriter};

/// Files in a database and a folder beside it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqliteFiles {
    database: Database,
    folder: PathBuf,
    changes: Arc<Mutex<()>>,
}

/// A file counts as so many bytes at least: what a tenant holds is bounded in number too.
const LEAST: u64 = 4096;
const HELD: &str = "SELECT CAST(COALESCE(SUM(CASE WHEN bytes < $2 THEN $2 ELSE bytes END), 0) AS BIGINT) \
    FROM files WHERE tenant = $1";
const LIVES: &str = "(expires_at IS NULL OR expires_at > $2)";

impl SqliteFiles {
    /// The files of `database` with their contents in `folder`. What no file names is removed, so that only the one writer of
    /// the project opens them.
    pub async fn open(database: Database, folder: PathBuf) -> Result<Self, Error> {
        let rows = sqlx::query("SELECT DISTINCT content FROM files").fetch_all(&database.read).await?;
        let named: HashSet<String> = rows.iter().map(|r| r.try_get(0)).collect::<Result<_, _>>()?;
        let files = SqliteFiles { database, folder, changes: Arc::default() };
        files.aside(move |folder| sweep(folder, &named)).await?;
        Ok(files)
    }

    /// Work with the folder, away from the threads that serve streams.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        let path = self.folder.clone();
        done.map_err(std::io::Error::from).flatten().map_err(|source| Error::Unwritable { path, source })
    }

    /// Removes rows, and the contents that no row names any more.
    async fn remove(&self, rows: Vec<(String, String)>) -> Result<(), Error> {
        for (id, content) in rows {
            let mut tx = self.database.begin().await?;
            sqlx::query("DELETE FROM files WHERE id = $1").bind(&id).execute(&mut *tx).await?;
            let others = sqlx::query("SELECT COUNT(*) FROM files WHERE content = $1").bind(&content);
            let others: i64 = others.fetch_one(&mut *tx).await?.try_get(0)?;
            tx.commit().await?;
            if others == 0 {
                self.aside(move |folder| remove(&folder.join(content))).await?;
            }
        }
        Ok(())
    }

    /// Removes at most `limit` files whose time is over. How many it were.
    async fn remove_expired(&self, now: UnixMillis, limit: u32) -> Result<u64, Error> {
        let rows = sqlx::query("SELECT id, content FROM files WHERE expires_at <= $1 LIMIT $2").bind(now.0);
        let rows = rows.bind(i64::from(limit)).fetch_all(&self.database.read).await?;
        let gone = rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?)));
        self.remove(gone.collect::<Result<_, sqlx::Error>>()?).await?;
        Ok(rows.len() as u64)
    }

    async fn find(
        &self,
        tenant: &TenantId,
        id: &str,
        now: UnixMillis,
    ) -> Result<Option<(FileInfo, String)>, Error> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT id, name, purpose, bytes, created_at, expires_at, content FROM files \
             WHERE tenant = $1 AND {LIVES} AND id = $3"
        ));
        let row = sqlx::query(sql).bind(tenant.as_str()).bind(now.0).bind(id);
        let row = row.fetch_optional(&self.database.read).await?;
        row.map(|r| Ok((info(&r)?, r.try_get(6)?))).transpose()
    }
}

fn info(row: &SqliteRow) -> Result<FileInfo, Error> {
    Ok(FileInfo {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        purpose: row.try_get(2)?,
        bytes: count(row.try_get(3)?),
        created_at: UnixMillis(row.try_get(4)?),
        expires_at: row.try_get::<Option<i64>, _>(5)?.map(UnixMillis),
    })
}

/// The hash that names a content in the folder, before the first byte of that.
fn hasher(tenant: &TenantId) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key("forebay 2026 files");
    hasher.update(&(tenant.as_str().len() as u64).to_le_bytes());
    hasher.update(tenant.as_str().as_bytes());
    hasher
}

/// The content's name in the folder.
fn name(tenant: &TenantId, content: &[u8]) -> String {
    hasher(tenant).update(content).finalize().to_hex().to_string()
}

/// At most `most` bytes from `from` on; `None` when the content is gone.
fn read_piece(path: &Path, from: u64, most: usize) -> std::io::Result<Option<Bytes>> {
    let mut file = match std::fs::File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.seek(SeekFrom::Start(from))?;
    let mut piece = Vec::with_capacity(most);
    file.take(most as u64).read_to_end(&mut piece)?;
    Ok(Some(piece.into()))
}

/// The name of the next file that is written piece by piece: no two are the same while a process lives, and none outlives it.
static WRITERS: AtomicU64 = AtomicU64::new(0);

/// A content on its way.
struct Writer {
    files: SqliteFiles,
    tenant: TenantId,
    part: PathBuf,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Drop for Writer {
    fn drop(&mut self) {
        // What is in place has another name by now. What stays is removed by the next start.
        let _ = remove(&self.part);
    }
}

impl FileWriter for Writer {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.hasher.update(&piece);
            self.bytes += piece.len() as u64;
            let part = self.part.clone();
            // Never created here: who was dropped meanwhile has removed it.
            let append =
                move |_: &Path| std::fs::OpenOptions::new().append(true).open(part)?.write_all(&piece);
            self.files.aside(append).await
        })
    }

    fn finish(self: Box<Self>, file: FileInfo) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let _one = self.files.changes.lock().await;
            let named = self.hasher.finalize().to_hex().to_string();
            let (part, name) = (self.part.clone(), named.clone());
            let place = move |folder: &Path| {
                std::fs::OpenOptions::new().append(true).open(&part)?.sync_all()?;
                std::fs::rename(&part, folder.join(name))?;
                std::fs::File::open(folder)?.sync_all()
            };
            self.files.aside(place).await?;
            let file = FileInfo { bytes: self.bytes, ..file };
            // A content that it had before is removed by the next start.
            insert(&self.files.database, &self.tenant, &file, &named, REPLACING).await
        })
    }
}

const NEW: &str = "INSERT INTO files (id, tenant, name, purpose, bytes, created_at, expires_at, content) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const REPLACING: &str = "INSERT INTO files (id, tenant, name, purpose, bytes, created_at, expires_at, content) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes, content = excluded.content";

/// Names a content.
async fn insert(
    database: &Database,
    tenant: &TenantId,
    file: &FileInfo,
    content: &str,
    sql: &'static str,
) -> Result<(), Error> {
    sqlx::query(sql)
        .bind(&file.id)
        .bind(tenant.as_str())
        .bind(&file.name)
        .bind(&file.purpose)
        .bind(column(file.bytes))
        .bind(file.created_at.0)
        .bind(file.expires_at.map(|t| t.0))
        .bind(content)
        .execute(&database.write)
        .await?;
    Ok(())
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn sweep(folder: &Path, named: &HashSet<String>) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(|n| named.contains(n)) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Puts a content in place, whole or not at all, and on the disk.
fn write(folder: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let (path, part) = (folder.join(name), folder.join(format!("{name}.part")));
    if path.exists() {
        return Ok(());
    }
    let mut file = std::fs::File::create(&part)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&part, &path)?;
    std::fs::File::open(folder)?.sync_all()
}

impl FileStore for SqliteFiles {
    fn put<'a>(
        &'a self,
        tenant: &'a TenantId,
        file: &'a FileInfo,
        content: Bytes,
        limit: u64,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let _one = self.changes.lock().await;
            self.remove_expired(file.created_at, u32::MAX).await?;
            let sum = sqlx::query(HELD).bind(tenant.as_str()).bind(column(LEAST));
            let row = sum.fetch_one(&self.database.read).await?;
            if count(row.try_get(0)?).saturating_add(file.bytes.max(LEAST)) > limit {
                return Err(Error::FilesFull { limit });
            }
            let named = self.aside({
                let tenant = tenant.clone();
                move |folder| {
                    let name = name(&tenant, &content);
                    write(folder, &name, &content).map(|()| name)
                }
            });
            let named = named.await?;
            insert(&self.database, tenant, file, &named, NEW).await?;
            Ok(())
        })
    }

    fn get<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<FileInfo>, Error>> {
        Box::pin(async move { Ok(self.find(tenant, id, now).await?.map(|(file, _)| file)) })
    }

    fn read<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<(FileInfo, Bytes)>, Error>> {
        Box::pin(async move {
            let Some((file, content)) = self.find(tenant, id, now).await? else { return Ok(None) };
            let read = self.aside(move |folder| match std::fs::read(folder.join(content)) {
                // Deleted since.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some),
            });
            Ok(read.await?.map(|content| (file, Bytes::from(content))))
        })
    }

    fn read_at<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        from: u64,
        most: usize,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<Bytes>, Error>> {
        Box::pin(async move {
            let Some((_, content)) = self.find(tenant, id, now).await? else { return Ok(None) };
            self.aside(move |folder| read_piece(&folder.join(content), from, most)).await
        })
    }

    fn create<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Box<dyn FileWriter>, Error>> {
        Box::pin(async move {
            let part = self.folder.join(format!("writing-{}.part", WRITERS.fetch_add(1, Ordering::Relaxed)));
            let begun = Writer {
                files: self.clone(),
                tenant: tenant.clone(),
                part: part.clone(),
                hasher: hasher(tenant),
                bytes: 0,
            };
            self.aside(move |_| std::fs::File::create(part).map(|_| ())).await?;
            Ok(Box::new(begun) as Box<dyn FileWriter>)
        })
    }

    fn held<'a>(&'a self, tenant: &'a TenantId, now: UnixMillis) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move {
            let _one = self.changes.lock().await;
            self.remove_expired(now, u32::MAX).await?;
            let sum = sqlx::query(HELD).bind(tenant.as_str()).bind(column(LEAST));
            Ok(count(sum.fetch_one(&self.database.read).await?.try_get(0)?))
        })
    }

    fn expire(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let _one = self.changes.lock().await;
            self.remove_expired(now, limit).await
        })
    }

    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        page: &'a FilePage,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(Vec<FileInfo>, bool), Error>> {
        Box::pin(async move {
            let (than, order) = if page.ascending { (">", "ASC") } else { ("<", "DESC") };
            let sql = sqlx::AssertSqlSafe(format!(
                "SELECT id, name, purpose, bytes, created_at, expires_at FROM files \
                 WHERE tenant = $1 AND {LIVES} AND ($3 IS NULL OR purpose = $3) \
                 AND ($4 IS NULL OR (created_at, id) {than} (SELECT created_at, id FROM files WHERE tenant = $1 AND id = $4)) \
                 ORDER BY created_at {order}, id {order} LIMIT $5"
            ));
            let query = sqlx::query(sql).bind(tenant.as_str()).bind(now.0);
            let query = query.bind(page.purpose.as_deref()).bind(page.after.as_deref());
            let rows = query.bind(i64::from(page.limit) + 1).fetch_all(&self.database.read).await?;
            let mut all = rows.iter().map(info).collect::<Result<Vec<_>, _>>()?;
            let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
            let more = all.len() > limit;
            all.truncate(limit);
            Ok((all, more))
        })
    }

    fn delete<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move {
            let _one = self.changes.lock().await;
            let Some((file, content)) = self.find(tenant, id, now).await? else { return Ok(false) };
            self.remove(vec![(file.id, content)]).await?;
            Ok(true)
        })
    }
}

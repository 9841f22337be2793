//! [`FileStore`]: what is known of files, and their contents, in the database. The changes of one tenant's files take turns: what
//! it holds is counted, and a content goes with the last file that has it.

use bytes::Bytes;
use contract::{BoxFuture, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use store::{Error, FileInfo, FilePage, FileStore, FileWriter};

use crate::database::Postgres;
use crate::pieces::{self, PIECE, hasher};
use crate::values::{column, count, text, time};

const TURN: i32 = 0x666f_7202;
/// A file counts as so many bytes at least: what a tenant holds is bounded in number too.
const LEAST: u64 = 4096;

/// Files in a database.
#[derive(Debug, Clone)]
pub(crate) struct Files(Postgres);

impl Files {
    pub(crate) fn new(database: Postgres) -> Self {
        Files(database)
    }
}

fn info(row: &PgRow) -> Result<FileInfo, Error> {
    Ok(FileInfo {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        purpose: row.try_get(2)?,
        bytes: count(row.try_get(3)?),
        created_at: UnixMillis(row.try_get(4)?),
        expires_at: time(row, 5)?,
    })
}

async fn turn(conn: &mut PgConnection, tenant: &str) -> Result<(), Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, hashtext($2))")
        .bind(TURN)
        .bind(tenant)
        .execute(conn)
        .await?;
    Ok(())
}

async fn sum(conn: &mut PgConnection, tenant: &TenantId, now: UnixMillis) -> Result<u64, Error> {
    let row = sqlx::query(
        "SELECT LEAST(COALESCE(SUM(GREATEST(bytes, $3)), 0), 9223372036854775807)::bigint FROM files \
         WHERE tenant = $1 AND (expires_at IS NULL OR expires_at > $2)",
    );
    let row = row.bind(text(tenant.as_str())).bind(now.0).bind(column(LEAST)).fetch_one(conn).await?;
    Ok(count(row.try_get(0)?))
}

/// A file that is there, and its content.
async fn find(
    conn: &mut PgConnection,
    tenant: &TenantId,
    id: &str,
    now: UnixMillis,
) -> Result<Option<(FileInfo, i64)>, Error> {
    let row = sqlx::query(
        "SELECT id, name, purpose, bytes, created_at, expires_at, content FROM files \
         WHERE tenant = $1 AND (expires_at IS NULL OR expires_at > $2) AND id = $3",
    );
    let row = row.bind(text(tenant.as_str())).bind(now.0).bind(text(id)).fetch_optional(conn).await?;
    row.map(|r| Ok((info(&r)?, r.try_get(6)?))).transpose()
}

const NEW: &str = "INSERT INTO files (id, tenant, name, purpose, bytes, created_at, expires_at, content) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const REPLACING: &str = "INSERT INTO files (id, tenant, name, purpose, bytes, created_at, expires_at, content) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (id) DO UPDATE SET bytes = excluded.bytes, content = excluded.content";

/// Names a content.
async fn insert(
    conn: &mut PgConnection,
    tenant: &TenantId,
    file: &FileInfo,
    content: i64,
    sql: &'static str,
) -> Result<(), Error> {
    sqlx::query(sql)
        .bind(text(&file.id))
        .bind(text(tenant.as_str()))
        .bind(text(&file.name))
        .bind(text(&file.purpose))
        .bind(column(file.bytes))
        .bind(file.created_at.0)
        .bind(file.expires_at.map(|t| t.0))
        .bind(content)
        .execute(conn)
        .await?;
    Ok(())
}

async fn put(
    db: &Postgres,
    tenant: &TenantId,
    file: &FileInfo,
    content: &[u8],
    limit: u64,
) -> Result<(), Error> {
    let mut tx = db.pool.begin().await?;
    turn(&mut tx, tenant.as_str()).await?;
    if sum(&mut tx, tenant, file.created_at).await?.saturating_add(file.bytes.max(LEAST)) > limit {
        return Err(Error::FilesFull { limit });
    }
    let hash = hasher(tenant).update(content).finalize().to_hex().to_string();
    let content = match pieces::known(&mut tx, &hash).await? {
        Some(known) => known,
        None => {
            let new = pieces::begin(&mut tx).await?;
            pieces::add(&mut tx, new, 0, content).await?;
            pieces::finish(&mut tx, new, &hash).await?;
            new
        }
    };
    insert(&mut tx, tenant, file, content, NEW).await?;
    Ok(tx.commit().await?)
}

async fn get(db: &Postgres, tenant: &TenantId, id: &str, now: UnixMillis) -> Result<Option<FileInfo>, Error> {
    let mut conn = db.pool.acquire().await?;
    Ok(find(&mut conn, tenant, id, now).await?.map(|(file, _)| file))
}

/// A piece of a file; `None` when it is not there, or was deleted since it was found.
async fn piece(
    db: &Postgres,
    (tenant, id, now): (&TenantId, &str, UnixMillis),
    from: u64,
    most: usize,
) -> Result<Option<(FileInfo, Bytes)>, Error> {
    let mut conn = db.pool.acquire().await?;
    let Some((file, content)) = find(&mut conn, tenant, id, now).await? else { return Ok(None) };
    if from >= file.bytes || most == 0 {
        return Ok(Some((file, Bytes::new())));
    }
    Ok(pieces::read(&mut conn, content, from, most).await?.map(|bytes| (file, bytes)))
}

async fn held(db: &Postgres, tenant: &TenantId, now: UnixMillis) -> Result<u64, Error> {
    sum(&mut *db.pool.acquire().await?, tenant, now).await
}

/// Removes files of one tenant, by the file's id, under its turn.
async fn remove(
    db: &Postgres,
    tenant: &str,
    id: &str,
    only_expired_at: Option<UnixMillis>,
) -> Result<bool, Error> {
    let mut tx = db.pool.begin().await?;
    turn(&mut tx, tenant).await?;
    let gone = sqlx::query(
        "DELETE FROM files WHERE id = $1 AND tenant = $2 AND ($3::bigint IS NULL OR expires_at <= $3) RETURNING content",
    );
    let gone = gone.bind(id).bind(tenant).bind(only_expired_at.map(|t| t.0)).fetch_optional(&mut *tx).await?;
    let Some(row) = gone else { return Ok(false) };
    pieces::remove(&mut tx, row.try_get(0)?).await?;
    tx.commit().await?;
    Ok(true)
}

async fn delete(db: &Postgres, tenant: &TenantId, id: &str, now: UnixMillis) -> Result<bool, Error> {
    if get(db, tenant, id, now).await?.is_none() {
        return Ok(false);
    }
    remove(db, &text(tenant.as_str()), id, None).await
}

async fn expired(db: &Postgres, now: UnixMillis, limit: u32) -> Result<Vec<(String, String)>, Error> {
    pieces::sweep(&mut *db.pool.acquire().await?).await?;
    let rows =
        sqlx::query("SELECT tenant, id FROM files WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2");
    let rows = rows.bind(now.0).bind(i64::from(limit)).fetch_all(&db.pool).await?;
    rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect()
}

async fn list(
    db: &Postgres,
    tenant: &TenantId,
    page: &FilePage,
    now: UnixMillis,
) -> Result<(Vec<FileInfo>, bool), Error> {
    macro_rules! pages {
        ($than:literal, $order:literal) => {
            concat!(
                "SELECT id, name, purpose, bytes, created_at, expires_at FROM files \
                 WHERE tenant = $1 AND (expires_at IS NULL OR expires_at > $2) AND ($3::text IS NULL OR purpose = $3) \
                 AND ($4::text IS NULL OR (created_at, id) ",
                $than,
                " (SELECT created_at, id FROM files WHERE tenant = $1 AND id = $4)) ORDER BY created_at ",
                $order,
                ", id ",
                $order,
                " LIMIT $5"
            )
        };
    }
    let sql = if page.ascending { pages!(">", "ASC") } else { pages!("<", "DESC") };
    let query = sqlx::query(sql).bind(text(tenant.as_str())).bind(now.0);
    let query = query.bind(page.purpose.as_deref().map(text)).bind(page.after.as_deref().map(text));
    let rows = query.bind(i64::from(page.limit) + 1).fetch_all(&db.pool).await?;
    let mut all = rows.iter().map(info).collect::<Result<Vec<_>, _>>()?;
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let more = all.len() > limit;
    all.truncate(limit);
    Ok((all, more))
}

/// A content on its way. Dropped, it is named by no file, and removed in a day.
struct Writer {
    db: Postgres,
    tenant: TenantId,
    content: i64,
    hasher: blake3::Hasher,
    /// Written so far, and what is gathered for the next piece.
    bytes: u64,
    rest: Vec<u8>,
}

async fn flush(db: &Postgres, content: i64, at: u64, bytes: &[u8]) -> Result<(), Error> {
    let mut tx = db.pool.begin().await?;
    pieces::add(&mut tx, content, at, bytes).await?;
    Ok(tx.commit().await?)
}

async fn finish(
    db: &Postgres,
    tenant: &TenantId,
    content: i64,
    hash: &str,
    file: &FileInfo,
) -> Result<(), Error> {
    let mut tx = db.pool.begin().await?;
    turn(&mut tx, tenant.as_str()).await?;
    let before = sqlx::query("SELECT content FROM files WHERE id = $1").bind(text(&file.id));
    let before: Option<i64> = before.fetch_optional(&mut *tx).await?.map(|r| r.try_get(0)).transpose()?;
    let whole = match pieces::known(&mut tx, hash).await? {
        Some(known) => known,
        None => {
            pieces::finish(&mut tx, content, hash).await?;
            content
        }
    };
    insert(&mut tx, tenant, file, whole, REPLACING).await?;
    // What it had before, and what was there already.
    for unnamed in before.into_iter().chain([content]) {
        pieces::remove(&mut tx, unnamed).await?;
    }
    Ok(tx.commit().await?)
}

impl FileWriter for Writer {
    fn write(&mut self, piece: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.hasher.update(&piece);
            self.rest.extend_from_slice(&piece);
            let whole = self.rest.len() - self.rest.len() % PIECE;
            if whole > 0 {
                let (db, content, at) = (&self.db, self.content, self.bytes);
                let ready = self.rest.get(..whole).unwrap_or_default();
                db.within(|| flush(db, content, at, ready)).await?;
                self.rest.drain(..whole);
                self.bytes += whole as u64;
            }
            Ok(())
        })
    }

    fn finish(self: Box<Self>, file: FileInfo) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            let Writer { db, tenant, content, hasher, bytes, rest } = *self;
            db.within(|| flush(&db, content, bytes, &rest)).await?;
            let file = FileInfo { bytes: bytes + rest.len() as u64, ..file };
            let hash = hasher.finalize().to_hex().to_string();
            db.within(|| finish(&db, &tenant, content, &hash, &file)).await
        })
    }
}

impl FileStore for Files {
    fn put<'a>(
        &'a self,
        tenant: &'a TenantId,
        file: &'a FileInfo,
        content: Bytes,
        limit: u64,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { self.0.within(|| put(&self.0, tenant, file, &content, limit)).await })
    }

    fn get<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<FileInfo>, Error>> {
        Box::pin(self.0.within(move || get(&self.0, tenant, id, now)))
    }

    fn read<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<Option<(FileInfo, Bytes)>, Error>> {
        Box::pin(self.0.within(move || piece(&self.0, (tenant, id, now), 0, usize::MAX)))
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
            let read = self.0.within(|| piece(&self.0, (tenant, id, now), from, most)).await?;
            Ok(read.map(|(_, bytes)| bytes))
        })
    }

    fn create<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Box<dyn FileWriter>, Error>> {
        Box::pin(async move {
            let begin = async || pieces::begin(&mut *self.0.pool.acquire().await?).await;
            let content = self.0.within(begin).await?;
            let (db, tenant, hasher) = (self.0.clone(), tenant.clone(), hasher(tenant));
            let writer = Writer { db, tenant, content, hasher, bytes: 0, rest: Vec::new() };
            Ok(Box::new(writer) as Box<dyn FileWriter>)
        })
    }

    fn held<'a>(&'a self, tenant: &'a TenantId, now: UnixMillis) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(self.0.within(move || held(&self.0, tenant, now)))
    }

    fn expire(&self, now: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let mut removed = 0;
            for (tenant, id) in self.0.within(|| expired(&self.0, now, limit)).await? {
                removed += u64::from(self.0.within(|| remove(&self.0, &tenant, &id, Some(now))).await?);
            }
            Ok(removed)
        })
    }

    fn list<'a>(
        &'a self,
        tenant: &'a TenantId,
        page: &'a FilePage,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<(Vec<FileInfo>, bool), Error>> {
        Box::pin(self.0.within(move || list(&self.0, tenant, page, now)))
    }

    fn delete<'a>(
        &'a self,
        tenant: &'a TenantId,
        id: &'a str,
        now: UnixMillis,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(self.0.within(move || delete(&self.0, tenant, id, now)))
    }
}

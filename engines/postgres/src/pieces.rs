//! Contents of files, in pieces: what is written without all of it in memory, and read from anywhere.
//!
//! A content without a hash is being written, and is named by no file. One whose writer died is removed a day later.

use bytes::Bytes;
use contract::TenantId;
use sqlx::Row;
use sqlx::postgres::PgConnection;
use store::Error;

/// How large a piece is, but for the last.
pub(crate) const PIECE: usize = 256 << 10;
/// How long a writer may be silent.
const ABANDONED: &str = "1 day";
/// Abandoned contents that are removed in one go.
const SWEPT: i64 = 16;

/// The hash that a content is known by, before the first byte of that: equal contents of two tenants are two.
pub(crate) fn hasher(tenant: &TenantId) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new_derive_key("forebay 2026 files");
    hasher.update(&(tenant.as_str().len() as u64).to_le_bytes());
    hasher.update(tenant.as_str().as_bytes());
    hasher
}

/// A place as a column.
fn place(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Begins a content.
pub(crate) async fn begin(conn: &mut PgConnection) -> Result<i64, Error> {
    let row = sqlx::query("INSERT INTO contents DEFAULT VALUES RETURNING id");
    Ok(row.fetch_one(conn).await?.try_get(0)?)
}

/// Adds what stands at `at`, piece by piece. Fails when the content was taken for abandoned.
pub(crate) async fn add(conn: &mut PgConnection, content: i64, at: u64, bytes: &[u8]) -> Result<(), Error> {
    for (n, piece) in (0_u64..).zip(bytes.chunks(PIECE)) {
        sqlx::query(
            "INSERT INTO content_pieces (content, at, piece) VALUES ($1, $2, $3) \
             ON CONFLICT (content, at) DO UPDATE SET piece = excluded.piece",
        )
        .bind(content)
        .bind(place(at.saturating_add(n.saturating_mul(PIECE as u64))))
        .bind(piece)
        .execute(&mut *conn)
        .await?;
    }
    let touch = "UPDATE contents SET touched_at = clock_timestamp() WHERE id = $1 AND hash IS NULL";
    sqlx::query(touch).bind(content).execute(conn).await?;
    Ok(())
}

/// The content that is known by `hash`.
pub(crate) async fn known(conn: &mut PgConnection, hash: &str) -> Result<Option<i64>, Error> {
    let row = sqlx::query("SELECT id FROM contents WHERE hash = $1").bind(hash);
    Ok(row.fetch_optional(conn).await?.map(|r| r.try_get(0)).transpose()?)
}

/// Says that a content is whole: it is known by `hash` from then on.
pub(crate) async fn finish(conn: &mut PgConnection, content: i64, hash: &str) -> Result<(), Error> {
    let whole = sqlx::query("UPDATE contents SET hash = $1 WHERE id = $2").bind(hash).bind(content);
    match whole.execute(conn).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(sqlx::Error::RowNotFound.into()),
    }
}

/// Removes a content if no file names it.
pub(crate) async fn remove(conn: &mut PgConnection, content: i64) -> Result<(), Error> {
    let unnamed =
        "DELETE FROM contents WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM files WHERE content = contents.id)";
    sqlx::query(unnamed).bind(content).execute(conn).await?;
    Ok(())
}

/// Removes what writers left that died.
pub(crate) async fn sweep(conn: &mut PgConnection) -> Result<(), Error> {
    sqlx::query(
        "DELETE FROM contents WHERE id IN (SELECT id FROM contents WHERE hash IS NULL \
         AND touched_at < clock_timestamp() - $1::interval ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(ABANDONED)
    .bind(SWEPT)
    .execute(conn)
    .await?;
    Ok(())
}

/// At most `most` bytes from `from` on, by one statement; `None` when there is nothing.
pub(crate) async fn read(
    conn: &mut PgConnection,
    content: i64,
    from: u64,
    most: usize,
) -> Result<Option<Bytes>, Error> {
    let to = from.saturating_add(most as u64);
    let rows = sqlx::query(
        "SELECT at, piece FROM content_pieces WHERE content = $1 AND at < $3 AND at >= COALESCE( \
         (SELECT MAX(at) FROM content_pieces WHERE content = $1 AND at <= $2), 0) ORDER BY at",
    )
    .bind(content)
    .bind(place(from))
    .bind(place(to))
    .fetch_all(conn)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut read = Vec::new();
    for row in &rows {
        let (at, piece): (i64, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let skip = usize::try_from(from.saturating_sub(u64::try_from(at).unwrap_or(0))).unwrap_or(usize::MAX);
        let rest = piece.get(skip..).unwrap_or_default();
        let room = most.saturating_sub(read.len());
        read.extend_from_slice(rest.get(..room).unwrap_or(rest));
    }
    Ok(Some(read.into()))
}

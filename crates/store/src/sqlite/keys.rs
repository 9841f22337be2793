//! [`KeyStore`] on SQLite.

use contract::{BoxFuture, KeyId, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::Database;
use crate::{Error, KeyHash, KeyInfo, KeySnapshot, KeyStore, Role};

/// Keys in a database.
#[derive(Debug, Clone)]
pub struct SqliteKeys(Database);

impl SqliteKeys {
    /// The keys of `database`.
    pub fn new(database: Database) -> Self {
        SqliteKeys(database)
    }
}

const BUMP: &str = "UPDATE meta SET value = value + 1 WHERE name = 'keys_version'";
const VERSION: &str = "SELECT value FROM meta WHERE name = 'keys_version'";
const ALL: &str = "SELECT id, name, tenant, created_at, expires_at, revoked_at, hash, role FROM keys ORDER BY created_at, id";
const ONE: &str =
    "SELECT id, name, tenant, created_at, expires_at, revoked_at, hash, role FROM keys WHERE id = $1";

fn info(row: &SqliteRow) -> Result<KeyInfo, Error> {
    Ok(KeyInfo {
        id: KeyId::from(row.try_get::<String, _>(0)?),
        name: row.try_get(1)?,
        tenant: TenantId::from(row.try_get::<String, _>(2)?),
        created_at: UnixMillis(row.try_get(3)?),
        expires_at: row.try_get::<Option<i64>, _>(4)?.map(UnixMillis),
        revoked_at: row.try_get::<Option<i64>, _>(5)?.map(UnixMillis),
        // Whatever is not known to administer does not.
        role: match row.try_get::<String, _>(7)?.as_str() {
            "admin" => Role::Admin,
            _ => Role::User,
        },
    })
}

async fn version(conn: &mut SqliteConnection) -> Result<i64, Error> {
    Ok(sqlx::query(VERSION).fetch_one(conn).await?.try_get(0)?)
}

impl KeyStore for SqliteKeys {
    fn add<'a>(&'a self, key: &'a KeyInfo, hash: KeyHash) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            sqlx::query(
                "INSERT INTO keys (id, name, tenant, hash, created_at, expires_at, revoked_at, role) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(key.id.as_str())
            .bind(&key.name)
            .bind(key.tenant.as_str())
            .bind(hash.0.as_slice())
            .bind(key.created_at.0)
            .bind(key.expires_at.map(|t| t.0))
            .bind(key.revoked_at.map(|t| t.0))
            .bind(key.role.as_str())
            .execute(&mut *tx)
            .await?;
            sqlx::query(BUMP).execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<KeyInfo>, Error>> {
        Box::pin(async move { sqlx::query(ALL).fetch_all(&self.0.read).await?.iter().map(info).collect() })
    }

    fn revoke<'a>(&'a self, id: &'a KeyId, at: UnixMillis) -> BoxFuture<'a, Result<KeyInfo, Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            sqlx::query("UPDATE keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
                .bind(at.0)
                .bind(id.as_str())
                .execute(&mut *tx)
                .await?;
            sqlx::query(BUMP).execute(&mut *tx).await?;
            let row = sqlx::query(ONE).bind(id.as_str()).fetch_optional(&mut *tx).await?;
            let row = row.ok_or_else(|| Error::UnknownKey(id.as_str().to_owned()))?;
            let revoked = info(&row)?;
            tx.commit().await?;
            Ok(revoked)
        })
    }

    fn version(&self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move { version(&mut *self.0.read.acquire().await?).await })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<KeySnapshot, Error>> {
        Box::pin(async move {
            let mut tx = self.0.read.begin().await?;
            let version = version(&mut tx).await?;
            let mut keys = Vec::new();
            for row in sqlx::query(ALL).fetch_all(&mut *tx).await? {
                let hash: Vec<u8> = row.try_get(6)?;
                let hash = <[u8; 32]>::try_from(hash)
                    .map_err(|_| sqlx::Error::Decode("a key's hash is not 32 bytes".into()))?;
                keys.push((info(&row)?, KeyHash(hash)));
            }
            Ok(KeySnapshot { version, keys })
        })
    }
}

//! [`KeyStore`]: a change of the keys and the rise of their version are one transaction.

use contract::{BoxFuture, KeyId, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};
use store::{Error, KeyHash, KeyInfo, KeySnapshot, KeyStore, Role};

use crate::database::Postgres;
use crate::values::{text, time};

/// Keys in a database.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Postgres);

impl Keys {
    pub(crate) fn new(database: Postgres) -> Self {
        Keys(database)
    }
}

const BUMP: &str = "UPDATE meta SET value = value + 1 WHERE name = 'keys_version'";
const VERSION: &str = "SELECT value FROM meta WHERE name = 'keys_version'";
const ALL: &str = "SELECT id, name, tenant, created_at, expires_at, revoked_at, hash, role FROM keys ORDER BY created_at, id";
const ONE: &str =
    "SELECT id, name, tenant, created_at, expires_at, revoked_at, hash, role FROM keys WHERE id = $1";

fn info(row: &PgRow) -> Result<KeyInfo, Error> {
    Ok(KeyInfo {
        id: KeyId::from(row.try_get::<String, _>(0)?),
        name: row.try_get(1)?,
        tenant: TenantId::from(row.try_get::<String, _>(2)?),
        created_at: UnixMillis(row.try_get(3)?),
        expires_at: time(row, 4)?,
        revoked_at: time(row, 5)?,
        // Whatever is not known to administer does not.
        role: match row.try_get::<String, _>(7)?.as_str() {
            "admin" => Role::Admin,
            _ => Role::User,
        },
    })
}

async fn version(conn: &mut PgConnection) -> Result<i64, Error> {
    Ok(sqlx::query(VERSION).fetch_one(conn).await?.try_get(0)?)
}

async fn add(db: &Postgres, key: &KeyInfo, hash: KeyHash) -> Result<(), Error> {
    let mut tx = db.pool.begin().await?;
    sqlx::query(
        "INSERT INTO keys (id, name, tenant, hash, created_at, expires_at, revoked_at, role) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(text(key.id.as_str()))
    .bind(text(&key.name))
    .bind(text(key.tenant.as_str()))
    .bind(hash.0.as_slice())
    .bind(key.created_at.0)
    .bind(key.expires_at.map(|t| t.0))
    .bind(key.revoked_at.map(|t| t.0))
    .bind(key.role.as_str())
    .execute(&mut *tx)
    .await?;
    sqlx::query(BUMP).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

async fn revoke(db: &Postgres, id: &KeyId, at: UnixMillis) -> Result<KeyInfo, Error> {
    let mut tx = db.pool.begin().await?;
    sqlx::query("UPDATE keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
        .bind(at.0)
        .bind(text(id.as_str()))
        .execute(&mut *tx)
        .await?;
    sqlx::query(BUMP).execute(&mut *tx).await?;
    let row = sqlx::query(ONE).bind(text(id.as_str())).fetch_optional(&mut *tx).await?;
    let row = row.ok_or_else(|| Error::UnknownKey(id.as_str().to_owned()))?;
    let revoked = info(&row)?;
    tx.commit().await?;
    Ok(revoked)
}

async fn list(db: &Postgres) -> Result<Vec<KeyInfo>, Error> {
    sqlx::query(ALL).fetch_all(&db.pool).await?.iter().map(info).collect()
}

/// The version before the keys: whoever changes them meanwhile makes a ring that is read again.
async fn snapshot(db: &Postgres) -> Result<KeySnapshot, Error> {
    let mut conn = db.pool.acquire().await?;
    let version = version(&mut conn).await?;
    let mut keys = Vec::new();
    for row in sqlx::query(ALL).fetch_all(&mut *conn).await? {
        let hash: Vec<u8> = row.try_get(6)?;
        let hash = <[u8; 32]>::try_from(hash)
            .map_err(|_| sqlx::Error::Decode("a key's hash is not 32 bytes".into()))?;
        keys.push((info(&row)?, KeyHash(hash)));
    }
    Ok(KeySnapshot { version, keys })
}

impl KeyStore for Keys {
    fn add<'a>(&'a self, key: &'a KeyInfo, hash: KeyHash) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.0.within(move || add(&self.0, key, hash)))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<KeyInfo>, Error>> {
        Box::pin(self.0.within(move || list(&self.0)))
    }

    fn revoke<'a>(&'a self, id: &'a KeyId, at: UnixMillis) -> BoxFuture<'a, Result<KeyInfo, Error>> {
        Box::pin(self.0.within(move || revoke(&self.0, id, at)))
    }

    fn version(&self) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(self.0.within(async move || version(&mut *self.0.pool.acquire().await?).await))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<KeySnapshot, Error>> {
        Box::pin(self.0.within(move || snapshot(&self.0)))
    }
}

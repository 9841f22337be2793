//! [`LineageStore`]: what was made of what.

use contract::{BoxFuture, TenantId, UnixMillis};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres as Pg, QueryBuilder, Row};
use store::{Error, LineageFact, LineageQuery, LineageStore, LineageVersion, NewLineage};

use crate::database::Postgres;
use crate::values::{column, text};

/// Facts of lineage in a database.
#[derive(Debug, Clone)]
pub(crate) struct Lineage(Postgres);

impl Lineage {
    pub(crate) fn new(database: Postgres) -> Self {
        Lineage(database)
    }
}

const FACTS: &str = "SELECT key, tenant, run, job, at, body FROM lineage_facts WHERE ";

fn fact(row: &PgRow) -> Result<LineageFact, Error> {
    let key: Vec<u8> = row.try_get(0)?;
    let key = key.try_into().map_err(|_| sqlx::Error::Decode("a fact's key has 32 bytes".into()))?;
    Ok(LineageFact {
        key,
        tenant: TenantId::from(row.try_get::<String, _>(1)?),
        run: row.try_get(2)?,
        job: row.try_get(3)?,
        at: UnixMillis(row.try_get(4)?),
        body: row.try_get(5)?,
    })
}

/// Writes a fact, unless there is one of its key. Whether there was none.
pub(crate) async fn write(conn: &mut PgConnection, new: &NewLineage) -> Result<bool, Error> {
    let NewLineage { fact, ends } = new;
    let written = sqlx::query(
        "INSERT INTO lineage_facts (key, tenant, run, job, at, body) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (key) DO NOTHING",
    )
    .bind(fact.key.as_slice())
    .bind(text(fact.tenant.as_str()))
    .bind(text(&fact.run))
    .bind(text(&fact.job))
    .bind(fact.at.0)
    .bind(text(&fact.body))
    .execute(&mut *conn)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    let texts = |of: fn(&store::LineageEnd) -> &str| -> Vec<String> {
        ends.iter().map(|e| text(of(e)).into_owned()).collect()
    };
    sqlx::query(
        "INSERT INTO lineage_ends (fact, role, kind, name, version, number, tenant, job, at) \
         SELECT $1, role, kind, name, version, number, $7, $8, $9 \
         FROM UNNEST($2::bigint[], $3::text[], $4::text[], $5::text[], $6::bigint[]) \
         AS new (role, kind, name, version, number) ON CONFLICT DO NOTHING",
    )
    .bind(fact.key.as_slice())
    .bind(ends.iter().map(|e| e.role.number()).collect::<Vec<i64>>())
    .bind(texts(|e| &e.kind))
    .bind(texts(|e| &e.name))
    .bind(texts(|e| &e.version))
    .bind(ends.iter().map(|e| e.number.map(column)).collect::<Vec<Option<i64>>>())
    .bind(text(fact.tenant.as_str()))
    .bind(text(&fact.job))
    .bind(fact.at.0)
    .execute(&mut *conn)
    .await?;
    Ok(true)
}

fn of_tenant(query: &mut QueryBuilder<Pg>, tenant: Option<&TenantId>) {
    if let Some(tenant) = tenant {
        query.push(" AND tenant = ").push_bind(text(tenant.as_str()).into_owned());
    }
}

async fn facts(db: &Postgres, mut query: QueryBuilder<Pg>) -> Result<Vec<LineageFact>, Error> {
    query.build().fetch_all(&db.pool).await?.iter().map(fact).collect()
}

async fn put(db: &Postgres, facts: &[NewLineage]) -> Result<u64, Error> {
    let mut tx = db.pool.begin().await?;
    let mut new = 0;
    for fact in facts {
        new += u64::from(write(&mut tx, fact).await?);
    }
    tx.commit().await?;
    Ok(new)
}

async fn around(db: &Postgres, of: &LineageQuery) -> Result<Vec<LineageFact>, Error> {
    let mut query = QueryBuilder::new(FACTS);
    query.push("key IN (SELECT fact FROM (SELECT fact");
    if of.version.is_none() {
        query.push(", ROW_NUMBER() OVER (PARTITION BY job ORDER BY at DESC, fact) AS place");
    }
    query.push(" FROM lineage_ends WHERE name = ").push_bind(text(&of.name).into_owned());
    query.push(" AND kind = ").push_bind(text(&of.kind).into_owned());
    query.push(" AND role = ").push_bind(of.role.number());
    of_tenant(&mut query, of.tenant.as_ref());
    match &of.version {
        None => query.push(") AS newest WHERE place = 1)"),
        Some(LineageVersion::Name(name)) => {
            query.push(" AND version = ").push_bind(text(name).into_owned()).push(") AS here)")
        }
        Some(LineageVersion::Number(n)) => {
            query.push(" AND number = ").push_bind(column(*n)).push(") AS here)")
        }
    };
    query.push(" ORDER BY at DESC, key LIMIT ").push_bind(i64::from(of.limit));
    facts(db, query).await
}

async fn of_run(
    db: &Postgres,
    tenant: Option<&TenantId>,
    run: &str,
    job: Option<&str>,
    limit: u32,
) -> Result<Vec<LineageFact>, Error> {
    let mut query = QueryBuilder::new(FACTS);
    query.push("run = ").push_bind(text(run).into_owned());
    if let Some(job) = job {
        query.push(" AND job = ").push_bind(text(job).into_owned());
    }
    of_tenant(&mut query, tenant);
    query.push(" ORDER BY at, key LIMIT ").push_bind(i64::from(limit));
    facts(db, query).await
}

async fn of_job(
    db: &Postgres,
    tenant: Option<&TenantId>,
    job: &str,
    limit: u32,
) -> Result<Vec<LineageFact>, Error> {
    let mut query = QueryBuilder::new(FACTS);
    query.push("job = ").push_bind(text(job).into_owned());
    of_tenant(&mut query, tenant);
    query.push(" ORDER BY at DESC, key LIMIT ").push_bind(i64::from(limit));
    facts(db, query).await
}

async fn called(
    db: &Postgres,
    tenant: Option<&TenantId>,
    name: &str,
    limit: u32,
) -> Result<Vec<(String, String)>, Error> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let mut query = QueryBuilder::new("SELECT kind, name FROM lineage_ends WHERE name = ");
    query.push_bind(text(name).into_owned());
    of_tenant(&mut query, tenant);
    query.push(" UNION SELECT kind, name FROM lineage_ends WHERE version <> '' AND version = ");
    query.push_bind(text(name).into_owned());
    of_tenant(&mut query, tenant);
    query.push(" ORDER BY 1, 2 LIMIT ").push_bind(i64::from(limit));
    let rows = query.build().fetch_all(&db.pool).await?;
    rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect()
}

async fn names(
    db: &Postgres,
    tenant: Option<&TenantId>,
    kind: &str,
    limit: u32,
) -> Result<Vec<String>, Error> {
    let mut query = QueryBuilder::new("SELECT DISTINCT name FROM lineage_ends WHERE kind = ");
    query.push_bind(text(kind).into_owned());
    of_tenant(&mut query, tenant);
    query.push(" ORDER BY name LIMIT ").push_bind(i64::from(limit));
    let rows = query.build().fetch_all(&db.pool).await?;
    rows.iter().map(|r| Ok(r.try_get(0)?)).collect()
}

async fn expire(db: &Postgres, before: UnixMillis, limit: u32) -> Result<u64, Error> {
    let removed = sqlx::query(
        "WITH old AS (SELECT key FROM lineage_facts WHERE at < $1 ORDER BY at, key LIMIT $2), \
         ends AS (DELETE FROM lineage_ends WHERE fact IN (SELECT key FROM old)) \
         DELETE FROM lineage_facts WHERE key IN (SELECT key FROM old)",
    )
    .bind(before.0)
    .bind(i64::from(limit));
    Ok(removed.execute(&db.pool).await?.rows_affected())
}

impl LineageStore for Lineage {
    fn put<'a>(&'a self, facts: &'a [NewLineage]) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(self.0.within(move || put(&self.0, facts)))
    }

    fn around<'a>(&'a self, query: &'a LineageQuery) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>> {
        Box::pin(self.0.within(move || around(&self.0, query)))
    }

    fn of_run<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        run: &'a str,
        job: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>> {
        Box::pin(self.0.within(move || of_run(&self.0, tenant, run, job, limit)))
    }

    fn of_job<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        job: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>> {
        Box::pin(self.0.within(move || of_job(&self.0, tenant, job, limit)))
    }

    fn called<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        text: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, Error>> {
        Box::pin(self.0.within(move || called(&self.0, tenant, text, limit)))
    }

    fn names<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        kind: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(self.0.within(move || names(&self.0, tenant, kind, limit)))
    }

    fn expire(&self, before: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(self.0.within(move || expire(&self.0, before, limit)))
    }
}

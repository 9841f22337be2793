//! [`LineageStore`] on SQLite.

use contract::{BoxFuture, TenantId, UnixMillis};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Database, ROWS, Script, column};
use crate::{Error, LineageFact, LineageQuery, LineageStore, LineageVersion, NewLineage};

/// Facts of lineage in a database.
#[derive(Debug, Clone)]
pub struct SqliteLineage(Database);

impl SqliteLineage {
    /// Kept in `database`.
    pub fn new(database: Database) -> Self {
        SqliteLineage(database)
    }
}

const FACTS: &str = "SELECT key, tenant, run, job, at, body FROM lineage_facts WHERE ";

fn fact(row: &SqliteRow) -> Result<LineageFact, Error> {
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

/// Writes a fact, unless there is one of its key: of that nothing is written.
pub(super) fn write(to: &mut Script, new: &NewLineage) {
    let NewLineage { fact, ends } = new;
    to.push("INSERT INTO lineage_facts (key, tenant, run, job, at, body) ");
    to.push_values([fact], |mut row, fact| {
        row.push_bind(fact.key.as_slice()).push_bind(fact.tenant.as_str()).push_bind(&fact.run);
        row.push_bind(&fact.job).push_bind(fact.at.0).push_bind(&fact.body);
    });
    to.push(" ON CONFLICT (key) DO NOTHING; ");
    for some in ends.chunks(ROWS) {
        let columns = "fact, role, kind, name, version, number, tenant, job, at";
        to.push(format_args!("INSERT INTO lineage_ends ({columns}) SELECT * FROM ("));
        to.push_values(some, |mut row, end| {
            row.push_bind(fact.key.as_slice()).push_bind(end.role.number()).push_bind(&end.kind);
            row.push_bind(&end.name).push_bind(&end.version).push_bind(end.number.map(column));
            row.push_bind(fact.tenant.as_str()).push_bind(&fact.job).push_bind(fact.at.0);
        });
        // Of the statement before: of the fact, or of ends of it.
        to.push(") WHERE changes() > 0 ON CONFLICT DO NOTHING; ");
    }
}

impl SqliteLineage {
    async fn facts(&self, mut query: QueryBuilder<Sqlite>) -> Result<Vec<LineageFact>, Error> {
        query.build().fetch_all(&self.0.read).await?.iter().map(fact).collect()
    }
}

fn of_tenant(query: &mut QueryBuilder<Sqlite>, tenant: Option<&TenantId>) {
    if let Some(tenant) = tenant {
        query.push(" AND tenant = ").push_bind(tenant.as_str().to_owned());
    }
}

impl LineageStore for SqliteLineage {
    fn put<'a>(&'a self, facts: &'a [NewLineage]) -> BoxFuture<'a, Result<u64, Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            let mut new = 0;
            for fact in facts {
                let mut script = Script::new("");
                write(&mut script, fact);
                let written = script.build().execute(&mut *tx).await?.rows_affected();
                new += u64::from(written > 0);
            }
            tx.commit().await?;
            Ok(new)
        })
    }

    fn around<'a>(&'a self, of: &'a LineageQuery) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::new(FACTS);
            query.push("key IN (SELECT fact FROM (SELECT fact");
            if of.version.is_none() {
                query.push(", ROW_NUMBER() OVER (PARTITION BY job ORDER BY at DESC, fact) AS place");
            }
            query.push(" FROM lineage_ends WHERE name = ").push_bind(&of.name);
            query.push(" AND kind = ").push_bind(&of.kind);
            query.push(" AND role = ").push_bind(of.role.number());
            of_tenant(&mut query, of.tenant.as_ref());
            match &of.version {
                None => query.push(") AS newest WHERE place = 1)"),
                Some(LineageVersion::Name(name)) => {
                    query.push(" AND version = ").push_bind(name).push(") AS here)")
                }
                Some(LineageVersion::Number(n)) => {
                    query.push(" AND number = ").push_bind(column(*n)).push(") AS here)")
                }
            };
            query.push(" ORDER BY at DESC, key LIMIT ").push_bind(i64::from(of.limit));
            self.facts(query).await
        })
    }

    fn of_run<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        run: &'a str,
        job: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::new(FACTS);
            query.push("run = ").push_bind(run);
            if let Some(job) = job {
                query.push(" AND job = ").push_bind(job);
            }
            of_tenant(&mut query, tenant);
            query.push(" ORDER BY at, key LIMIT ").push_bind(i64::from(limit));
            self.facts(query).await
        })
    }

    fn of_job<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        job: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<LineageFact>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::new(FACTS);
            query.push("job = ").push_bind(job);
            of_tenant(&mut query, tenant);
            query.push(" ORDER BY at DESC, key LIMIT ").push_bind(i64::from(limit));
            self.facts(query).await
        })
    }

    fn called<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        text: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<(String, String)>, Error>> {
        Box::pin(async move {
            if text.is_empty() {
                return Ok(Vec::new());
            }
            let mut query = QueryBuilder::new("SELECT kind, name FROM lineage_ends WHERE name = ");
            query.push_bind(text);
            of_tenant(&mut query, tenant);
            // Spelled out, so that the index of versions that there are is used.
            query.push(" UNION SELECT kind, name FROM lineage_ends WHERE version <> '' AND version = ");
            query.push_bind(text);
            of_tenant(&mut query, tenant);
            query.push(" ORDER BY 1, 2 LIMIT ").push_bind(i64::from(limit));
            let rows = query.build().fetch_all(&self.0.read).await?;
            rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect()
        })
    }

    fn names<'a>(
        &'a self,
        tenant: Option<&'a TenantId>,
        kind: &'a str,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<String>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::new("SELECT DISTINCT name FROM lineage_ends WHERE kind = ");
            query.push_bind(kind);
            of_tenant(&mut query, tenant);
            query.push(" ORDER BY name LIMIT ").push_bind(i64::from(limit));
            let rows = query.build().fetch_all(&self.0.read).await?;
            rows.iter().map(|r| Ok(r.try_get(0)?)).collect()
        })
    }

    fn expire(&self, before: UnixMillis, limit: u32) -> BoxFuture<'_, Result<u64, Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            let [mut ends, mut facts] = ["lineage_ends WHERE fact", "lineage_facts WHERE key"].map(|of| {
                let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM ");
                query.push(of).push(" IN (SELECT key FROM lineage_facts WHERE at < ").push_bind(before.0);
                query.push(" ORDER BY at, key LIMIT ").push_bind(i64::from(limit)).push(")");
                query
            });
            ends.build().execute(&mut *tx).await?;
            let removed = facts.build().execute(&mut *tx).await?.rows_affected();
            tx.commit().await?;
            Ok(removed)
        })
    }
}

//! [`LedgerStore`]: a batch is one transaction of a few statements, each over whole columns. Several processes write: each has a
//! journal of its own, whose position and open requests are kept under its name.

use std::collections::HashSet;

use contract::{BoxFuture, RequestId, RequestRecord, UnixMillis};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres as Pg, QueryBuilder, Row};
use store::journal::Position;
use store::{
    Admitted, CostBy, CostRow, Entry, Error, Filter, LedgerStore, ScopeSpent, Settled, SettledAttempt,
    SettledColumns,
};

use crate::database::Postgres;
use crate::sums;
use crate::values::{column, count, money, text};

/// The ledger in a database, behind the journal of one folder.
#[derive(Debug, Clone)]
pub(crate) struct Ledger(Postgres);

impl Ledger {
    pub(crate) fn new(database: Postgres) -> Self {
        Ledger(database)
    }
}

fn record(row: &PgRow) -> Result<RequestRecord, Error> {
    Ok(serde_json::from_str(row.try_get::<&str, _>(0)?)?)
}

/// A column of names.
fn names<'a, T>(of: &[T], name: impl Fn(&T) -> Option<&'a str>) -> Vec<Option<String>> {
    of.iter().map(|one| name(one).map(|n| text(n).into_owned())).collect()
}

/// A column of figures.
fn figures<T>(of: &[T], figure: impl Fn(&T) -> i64) -> Vec<i64> {
    of.iter().map(figure).collect()
}

/// A column of ids.
fn ids<T>(of: &[T], id: impl Fn(&T) -> RequestId) -> Vec<Vec<u8>> {
    of.iter().map(|one| id(one).as_bytes().to_vec()).collect()
}

/// Adds the records that are not there yet. Which those are.
async fn insert_requests(conn: &mut PgConnection, records: &[&Settled]) -> Result<HashSet<Vec<u8>>, Error> {
    let of: Vec<&SettledColumns> = records.iter().map(|s| s.columns()).collect();
    let rows = sqlx::query(
        "INSERT INTO requests (id, at, day, tenant, key_id, user_id, pipeline, model, ending, attempts, \
         input_tokens, output_tokens, cost, total_us, record) \
         SELECT * FROM UNNEST($1::bytea[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
         $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[]) \
         ON CONFLICT (id) DO NOTHING RETURNING id",
    )
    .bind(ids(&of, |r| r.id))
    .bind(figures(&of, |r| r.at.0))
    .bind(figures(&of, |r| r.at.utc_day()))
    .bind(names(&of, |r| Some(r.tenant.as_str())))
    .bind(names(&of, |r| r.key.as_ref().map(|n| n.as_str())))
    .bind(names(&of, |r| r.user.as_ref().map(|n| n.as_str())))
    .bind(names(&of, |r| r.pipeline.as_ref().map(|n| n.as_str())))
    .bind(names(&of, |r| r.model.as_ref().map(|n| n.as_str())))
    .bind(names(&of, |r| Some(r.ending.as_str())))
    .bind(figures(&of, |r| column(r.apart().len() as u64)))
    .bind(figures(&of, |r| column(r.usage.input_tokens)))
    .bind(figures(&of, |r| column(r.usage.output_tokens)))
    .bind(figures(&of, |r| money(r.cost)))
    .bind(figures(&of, |r| column(r.total_us)))
    .bind(records.iter().map(|s| &**s.text()).collect::<Vec<&str>>())
    .fetch_all(conn)
    .await?;
    rows.iter().map(|r| Ok(r.try_get(0)?)).collect()
}

async fn insert_attempts(conn: &mut PgConnection, records: &[&Settled]) -> Result<(), Error> {
    type Row<'a> = (&'a SettledColumns, usize, &'a SettledAttempt);
    let all = records.iter().map(|s| s.columns());
    let of: Vec<Row<'_>> =
        all.flat_map(|r| r.apart().iter().enumerate().map(move |(n, a)| (r, n, a))).collect();
    if of.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO attempts (request, number, at, day, tenant, stage, model, endpoint, ending, \
         input_tokens, output_tokens, cost) \
         SELECT * FROM UNNEST($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], \
         $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[]) \
         ON CONFLICT (request, number) DO NOTHING",
    )
    .bind(ids(&of, |(r, ..)| r.id))
    .bind(figures(&of, |(_, n, _)| column(*n as u64)))
    .bind(figures(&of, |(r, ..)| r.at.0))
    .bind(figures(&of, |(r, ..)| r.at.utc_day()))
    .bind(names(&of, |(r, ..)| Some(r.tenant.as_str())))
    .bind(names(&of, |(_, _, a)| a.stage.as_ref().map(|n| n.as_str())))
    .bind(names(&of, |(_, _, a)| Some(a.model.as_str())))
    .bind(names(&of, |(_, _, a)| Some(a.endpoint.as_str())))
    .bind(names(&of, |(_, _, a)| Some(a.ending.as_str())))
    .bind(figures(&of, |(_, _, a)| column(a.usage.input_tokens)))
    .bind(figures(&of, |(_, _, a)| column(a.usage.output_tokens)))
    .bind(figures(&of, |(_, _, a)| money(a.cost)))
    .execute(conn)
    .await?;
    Ok(())
}

async fn settle(conn: &mut PgConnection, entries: &[Entry]) -> Result<HashSet<RequestId>, Error> {
    let mut seen = HashSet::new();
    let first: Vec<&Settled> = entries
        .iter()
        .filter_map(|e| match e {
            Entry::Settled(s) => seen.insert(s.id()).then_some(s),
            Entry::Admitted(_) => None,
        })
        .collect();
    if first.is_empty() {
        return Ok(seen);
    }
    let fresh = insert_requests(&mut *conn, &first).await?;
    let new: Vec<&Settled> =
        first.iter().copied().filter(|s| fresh.contains(s.id().as_bytes().as_slice())).collect();
    insert_attempts(&mut *conn, &new).await?;
    let closed = sqlx::query("DELETE FROM admitted WHERE id = ANY($1)").bind(ids(&first, |s| s.id()));
    closed.execute(conn).await?;
    Ok(seen)
}

async fn admit(
    conn: &mut PgConnection,
    journal: &str,
    entries: &[Entry],
    settled: &HashSet<RequestId>,
) -> Result<(), Error> {
    let open: Vec<&Admitted> = entries
        .iter()
        .filter_map(|e| match e {
            Entry::Admitted(a) => (!settled.contains(&a.id)).then_some(a),
            Entry::Settled(_) => None,
        })
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let texts = open.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    sqlx::query(
        "INSERT INTO admitted (id, journal, entry) SELECT id, $3, entry FROM UNNEST($1::bytea[], $2::text[]) AS new (id, entry) \
         WHERE NOT EXISTS (SELECT 1 FROM requests r WHERE r.id = new.id) ON CONFLICT (id) DO NOTHING",
    )
    .bind(ids(&open, |a| a.id))
    .bind(texts)
    .bind(journal)
    .execute(conn)
    .await?;
    Ok(())
}

async fn apply(db: &Postgres, entries: &[Entry], position: Position) -> Result<(), Error> {
    let mut tx = db.pool.begin().await?;
    let settled = settle(&mut tx, entries).await?;
    admit(&mut tx, &db.journal, entries, &settled).await?;
    let place = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO journals (name, segment, at) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET segment = excluded.segment, at = excluded.at",
    )
    .bind(&*db.journal)
    .bind(place(position.segment))
    .bind(place(position.offset))
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

async fn position(db: &Postgres) -> Result<Position, Error> {
    let row = sqlx::query("SELECT segment, at FROM journals WHERE name = $1").bind(&*db.journal);
    let Some(row) = row.fetch_optional(&db.pool).await? else { return Ok(Position::default()) };
    Ok(Position { segment: count(row.try_get(0)?), offset: count(row.try_get(1)?) })
}

async fn open_requests(db: &Postgres) -> Result<Vec<Admitted>, Error> {
    let rows = sqlx::query("SELECT entry FROM admitted WHERE journal = $1 ORDER BY id").bind(&*db.journal);
    let rows = rows.fetch_all(&db.pool).await?;
    rows.iter().map(|r| Ok(serde_json::from_str(r.try_get::<&str, _>(0)?)?)).collect()
}

async fn get(db: &Postgres, id: RequestId) -> Result<Option<RequestRecord>, Error> {
    let row = sqlx::query("SELECT record FROM requests WHERE id = $1").bind(id.as_bytes().to_vec());
    row.fetch_optional(&db.pool).await?.as_ref().map(record).transpose()
}

async fn recent(db: &Postgres, limit: u32, filter: &Filter) -> Result<Vec<RequestRecord>, Error> {
    let mut query = QueryBuilder::<Pg>::new("SELECT record FROM requests WHERE TRUE");
    if let Some(t) = &filter.tenant {
        query.push(" AND tenant = ").push_bind(text(t.as_str()));
    }
    if let Some(p) = &filter.pipeline {
        query.push(" AND pipeline = ").push_bind(text(p.as_str()));
    }
    if let Some(m) = &filter.model {
        query.push(" AND model = ").push_bind(text(m.as_str()));
    }
    if let Some(since) = filter.since {
        query.push(" AND at >= ").push_bind(since.0);
    }
    query.push(" ORDER BY at DESC, id DESC LIMIT ").push_bind(i64::from(limit));
    query.build().fetch_all(&db.pool).await?.iter().map(record).collect()
}

impl LedgerStore for Ledger {
    fn apply<'a>(&'a self, entries: &'a [Entry], position: Position) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.0.within(move || apply(&self.0, entries, position)))
    }

    fn position(&self) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(self.0.within(move || position(&self.0)))
    }

    fn open_requests(&self) -> BoxFuture<'_, Result<Vec<Admitted>, Error>> {
        Box::pin(self.0.within(move || open_requests(&self.0)))
    }

    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Option<RequestRecord>, Error>> {
        Box::pin(self.0.within(move || get(&self.0, id)))
    }

    fn recent<'a>(
        &'a self,
        limit: u32,
        filter: &'a Filter,
    ) -> BoxFuture<'a, Result<Vec<RequestRecord>, Error>> {
        Box::pin(self.0.within(move || recent(&self.0, limit, filter)))
    }

    fn costs(
        &self,
        by: CostBy,
        from: UnixMillis,
        to: UnixMillis,
    ) -> BoxFuture<'_, Result<Vec<CostRow>, Error>> {
        Box::pin(self.0.within(move || sums::costs(&self.0.pool, by, from, to)))
    }

    fn spent_by_scope(
        &self,
        from: UnixMillis,
        to: UnixMillis,
    ) -> BoxFuture<'_, Result<Vec<ScopeSpent>, Error>> {
        Box::pin(self.0.within(move || sums::spent_by_scope(&self.0.pool, from, to)))
    }
}

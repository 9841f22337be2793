//! [`LedgerStore`] on SQLite: a batch is one transaction of a few many-row statements.

use std::collections::HashSet;

use contract::{BoxFuture, Name, RequestId, RequestRecord, UnixMillis};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{QueryBuilder, Row, Sqlite};

use super::{Database, column, money, sums};
use crate::journal::Position;
use crate::{
    Admitted, CostBy, CostRow, Entry, Error, Filter, LedgerStore, ScopeSpent, Settled, SettledAttempt,
    SettledColumns,
};

/// Rows of one statement, at most.
const ROWS: usize = 512;

/// Rows in groups whose sizes are powers of two: each makes a statement that the connection has prepared before, and a
/// batch of any size needs few. Preparing a statement of a thousand parameters costs more than running it.
fn groups<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let most = rows.len().min(ROWS).checked_ilog2()?;
        let (group, rest) = rows.split_at(1 << most);
        rows = rest;
        Some(group)
    })
}

/// The ledger in a database.
#[derive(Debug, Clone)]
pub struct SqliteLedger(Database);

impl SqliteLedger {
    /// The ledger of `database`.
    pub fn new(database: Database) -> Self {
        SqliteLedger(database)
    }
}

fn record(row: &SqliteRow) -> Result<RequestRecord, Error> {
    Ok(serde_json::from_str(row.try_get::<&str, _>("record")?)?)
}

/// ` (id, id, …)` behind `sql`.
fn with_ids(sql: &'static str, ids: &[RequestId]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(sql);
    query.push(" (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(id.as_bytes().to_vec());
    }
    query.push(")");
    query
}

async fn insert_requests(conn: &mut SqliteConnection, records: &[&Settled]) -> Result<(), Error> {
    for rows in groups(records) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO requests (id, at, day, tenant, key_id, user_id, pipeline, model, ending, attempts, \
             input_tokens, output_tokens, cost, total_us, record) ",
        );
        query.push_values(rows.iter(), |mut row, settled| {
            let r = settled.columns();
            row.push_bind(r.id.as_bytes().to_vec())
                .push_bind(r.at.0)
                .push_bind(r.at.utc_day())
                .push_bind(r.tenant.shared())
                .push_bind(r.key.as_ref().map(Name::shared))
                .push_bind(r.user.as_ref().map(Name::shared))
                .push_bind(r.pipeline.as_ref().map(Name::shared))
                .push_bind(r.model.as_ref().map(Name::shared))
                .push_bind(r.ending.as_str())
                .push_bind(column(r.apart().len() as u64))
                .push_bind(column(r.usage.input_tokens))
                .push_bind(column(r.usage.output_tokens))
                .push_bind(money(r.cost))
                .push_bind(column(r.total_us))
                .push_bind(settled.text().clone());
        });
        query.push(" ON CONFLICT (id) DO NOTHING");
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

async fn insert_attempts(conn: &mut SqliteConnection, records: &[&Settled]) -> Result<(), Error> {
    let attempts: Vec<(&SettledColumns, usize, &SettledAttempt)> = records
        .iter()
        .map(|s| s.columns())
        .flat_map(|r| r.apart().iter().enumerate().map(move |(n, a)| (r, n, a)))
        .collect();
    for rows in groups(&attempts) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO attempts (request, number, at, day, tenant, stage, model, endpoint, ending, \
             input_tokens, output_tokens, cost) ",
        );
        query.push_values(rows, |mut row, (r, n, a)| {
            row.push_bind(r.id.as_bytes().to_vec())
                .push_bind(column(*n as u64))
                .push_bind(r.at.0)
                .push_bind(r.at.utc_day())
                .push_bind(r.tenant.shared())
                .push_bind(a.stage.as_ref().map(Name::shared))
                .push_bind(a.model.shared())
                .push_bind(a.endpoint.shared())
                .push_bind(a.ending.as_str())
                .push_bind(column(a.usage.input_tokens))
                .push_bind(column(a.usage.output_tokens))
                .push_bind(money(a.cost));
        });
        query.push(" ON CONFLICT (request, number) DO NOTHING");
        query.build().execute(&mut *conn).await?;
    }
    Ok(())
}

async fn settle(conn: &mut SqliteConnection, entries: &[Entry]) -> Result<HashSet<RequestId>, Error> {
    let mut seen = HashSet::new();
    let first: Vec<&Settled> = entries
        .iter()
        .filter_map(|e| match e {
            Entry::Settled(s) => seen.insert(s.id()).then_some(s),
            Entry::Admitted(_) => None,
        })
        .collect();
    let ids: Vec<RequestId> = seen.iter().copied().collect();
    let mut known = HashSet::new();
    for chunk in groups(&ids) {
        let mut query = with_ids("SELECT id FROM requests WHERE id IN", chunk);
        for row in query.build().fetch_all(&mut *conn).await? {
            known.insert(row.try_get::<Vec<u8>, _>(0)?);
        }
        with_ids("DELETE FROM admitted WHERE id IN", chunk).build().execute(&mut *conn).await?;
    }
    let fresh: Vec<&Settled> =
        first.into_iter().filter(|s| !known.contains(s.id().as_bytes().as_slice())).collect();
    insert_requests(conn, &fresh).await?;
    insert_attempts(conn, &fresh).await?;
    Ok(seen)
}

async fn admit(
    conn: &mut SqliteConnection,
    entries: &[Entry],
    settled: &HashSet<RequestId>,
) -> Result<(), Error> {
    for entry in entries {
        let Entry::Admitted(a) = entry else { continue };
        if settled.contains(&a.id) {
            continue;
        }
        sqlx::query(
            "INSERT INTO admitted (id, entry) SELECT $1, $2 \
             WHERE NOT EXISTS (SELECT 1 FROM requests WHERE id = $1) ON CONFLICT (id) DO NOTHING",
        )
        .bind(a.id.as_bytes().as_slice())
        .bind(serde_json::to_string(a)?)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn set_meta(conn: &mut SqliteConnection, name: &str, value: u64) -> Result<(), Error> {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    sqlx::query("UPDATE meta SET value = $1 WHERE name = $2").bind(value).bind(name).execute(conn).await?;
    Ok(())
}

impl LedgerStore for SqliteLedger {
    fn apply<'a>(&'a self, entries: &'a [Entry], position: Position) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let mut tx = self.0.begin().await?;
            if !entries.is_empty() {
                let settled = settle(&mut tx, entries).await?;
                admit(&mut tx, entries, &settled).await?;
            }
            set_meta(&mut tx, "journal_segment", position.segment).await?;
            set_meta(&mut tx, "journal_offset", position.offset).await?;
            Ok(tx.commit().await?)
        })
    }

    fn position(&self) -> BoxFuture<'_, Result<Position, Error>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT s.value, o.value FROM meta s, meta o \
                 WHERE s.name = 'journal_segment' AND o.name = 'journal_offset'",
            )
            .fetch_one(&self.0.read)
            .await?;
            Ok(Position { segment: super::count(row.try_get(0)?), offset: super::count(row.try_get(1)?) })
        })
    }

    fn open_requests(&self) -> BoxFuture<'_, Result<Vec<Admitted>, Error>> {
        Box::pin(async move {
            let rows = sqlx::query("SELECT entry FROM admitted ORDER BY id").fetch_all(&self.0.read).await?;
            rows.iter().map(|r| Ok(serde_json::from_str(r.try_get::<&str, _>(0)?)?)).collect()
        })
    }

    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Option<RequestRecord>, Error>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT record FROM requests WHERE id = $1")
                .bind(id.as_bytes().to_vec())
                .fetch_optional(&self.0.read)
                .await?;
            row.as_ref().map(record).transpose()
        })
    }

    fn recent<'a>(
        &'a self,
        limit: u32,
        filter: &'a Filter,
    ) -> BoxFuture<'a, Result<Vec<RequestRecord>, Error>> {
        Box::pin(async move {
            let mut query = QueryBuilder::<Sqlite>::new("SELECT record FROM requests WHERE 1 = 1");
            if let Some(t) = &filter.tenant {
                query.push(" AND tenant = ").push_bind(t.as_str());
            }
            if let Some(p) = &filter.pipeline {
                query.push(" AND pipeline = ").push_bind(p.as_str());
            }
            if let Some(m) = &filter.model {
                query.push(" AND model = ").push_bind(m.as_str());
            }
            if let Some(since) = filter.since {
                query.push(" AND at >= ").push_bind(since.0);
            }
            query.push(" ORDER BY at DESC, id DESC LIMIT ").push_bind(i64::from(limit));
            query.build().fetch_all(&self.0.read).await?.iter().map(record).collect()
        })
    }

    fn costs(
        &self,
        by: CostBy,
        from: UnixMillis,
        to: UnixMillis,
    ) -> BoxFuture<'_, Result<Vec<CostRow>, Error>> {
        Box::pin(sums::costs(&self.0.read, by, from, to))
    }

    fn spent_by_scope(
        &self,
        from: UnixMillis,
        to: UnixMillis,
    ) -> BoxFuture<'_, Result<Vec<ScopeSpent>, Error>> {
        Box::pin(sums::spent_by_scope(&self.0.read, from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_every_row_once_in_order_and_have_few_sizes() {
        for n in 0..300 {
            let rows: Vec<usize> = (0..n).collect();
            let groups: Vec<&[usize]> = groups(&rows).collect();
            assert_eq!(groups.concat(), rows);
            assert!(groups.iter().all(|g| g.len().is_power_of_two() && g.len() <= ROWS));
        }
    }
}

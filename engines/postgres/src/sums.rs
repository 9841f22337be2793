//! The sums of the ledger: bills, and what budgets have used. Integers only: they are summed exactly, and
//! stand at the largest there is when they would be larger.

use contract::{Money, TenantId, UnixMillis};
use sqlx::Row;
use sqlx::postgres::PgPool;
use store::{CostBy, CostRow, Error, ScopeSpent};

use crate::values::count;

/// A statement over the requests: name, tenant, requests, input, output, cost.
macro_rules! by_request {
    ($name:literal, $tenant:literal, $group:literal, $order:literal) => {
        concat!(
            "SELECT ",
            $name,
            ", ",
            $tenant,
            ", COUNT(*), LEAST(SUM(input_tokens), 9223372036854775807)::bigint, ",
            "LEAST(SUM(output_tokens), 9223372036854775807)::bigint, LEAST(SUM(cost), 9223372036854775807)::bigint AS paid ",
            "FROM requests WHERE at >= $1 AND at < $2 GROUP BY ",
            $group,
            " ORDER BY ",
            $order
        )
    };
}

fn statement(by: CostBy) -> &'static str {
    match by {
        CostBy::Tenant => by_request!("tenant", "NULL::text", "tenant", "paid DESC, tenant"),
        CostBy::Pipeline => {
            by_request!("pipeline", "NULL::text", "pipeline", "paid DESC, pipeline NULLS FIRST")
        }
        CostBy::Key => by_request!("key_id", "NULL::text", "key_id", "paid DESC, key_id NULLS FIRST"),
        CostBy::User => {
            by_request!("user_id", "tenant", "tenant, user_id", "paid DESC, tenant, user_id NULLS FIRST")
        }
        CostBy::Day => by_request!("CAST(day AS TEXT)", "NULL::text", "day", "day"),
        CostBy::Model => {
            "SELECT model, NULL::text, COUNT(DISTINCT id), LEAST(SUM(input_tokens), 9223372036854775807)::bigint, \
             LEAST(SUM(output_tokens), 9223372036854775807)::bigint, LEAST(SUM(cost), 9223372036854775807)::bigint AS paid FROM ( \
             SELECT request AS id, model, input_tokens, output_tokens, cost FROM attempts \
             WHERE at >= $1 AND at < $2 UNION ALL \
             SELECT id, model, input_tokens, output_tokens, cost FROM requests \
             WHERE at >= $1 AND at < $2 AND attempts = 0) AS calls \
             GROUP BY model ORDER BY paid DESC, model NULLS FIRST"
        }
    }
}

pub(crate) async fn costs(
    pool: &PgPool,
    by: CostBy,
    from: UnixMillis,
    to: UnixMillis,
) -> Result<Vec<CostRow>, Error> {
    let rows = sqlx::query(statement(by)).bind(from.0).bind(to.0).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            Ok(CostRow {
                name: row.try_get(0)?,
                tenant: row.try_get::<Option<String>, _>(1)?.map(TenantId::from),
                requests: count(row.try_get(2)?),
                input_tokens: count(row.try_get(3)?),
                output_tokens: count(row.try_get(4)?),
                cost: Money::from_nanos(row.try_get(5)?),
            })
        })
        .collect()
}

pub(crate) async fn spent_by_scope(
    pool: &PgPool,
    from: UnixMillis,
    to: UnixMillis,
) -> Result<Vec<ScopeSpent>, Error> {
    let mut spent = Vec::new();
    for by in [CostBy::Tenant, CostBy::Key, CostBy::User, CostBy::Pipeline] {
        let rows = costs(pool, by, from, to).await?;
        spent.extend(rows.into_iter().filter_map(|row| ScopeSpent::of(by, row)));
    }
    Ok(spent)
}

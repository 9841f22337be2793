//! Adds records that the database has not seen yet to the lines of a bill. Pure; the database's own sums are in
//! `sqlite/sums.rs`, and a test holds the two to the same result.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use contract::{Money, RequestRecord, UnixMillis, Usage};

use super::{CostBy, CostRow};

/// Adds the records with `from ≤ at < to`, and sorts the lines as a bill is sorted.
pub(crate) fn add(
    rows: &mut Vec<CostRow>,
    records: &[RequestRecord],
    by: CostBy,
    from: UnixMillis,
    to: UnixMillis,
) {
    for r in records.iter().filter(|r| from <= r.at && r.at < to) {
        let name = match by {
            CostBy::Tenant => Some(r.tenant.to_string()),
            CostBy::Pipeline => r.pipeline.as_ref().map(ToString::to_string),
            CostBy::Key => r.key.as_ref().map(ToString::to_string),
            CostBy::User => r.user.as_ref().map(ToString::to_string),
            CostBy::Day => Some(r.at.utc_day().to_string()),
            CostBy::Model if r.attempts.is_empty() => r.model.as_ref().map(ToString::to_string),
            CostBy::Model => {
                let mut counted = BTreeSet::new();
                for a in &r.attempts {
                    let line = line(rows, Some(a.model.to_string()), None);
                    charge(line, &a.usage, a.cost);
                    // A request that asked a model twice is one request of it.
                    line.requests += u64::from(counted.insert(&a.model));
                }
                continue;
            }
        };
        let tenant = (by == CostBy::User).then(|| r.tenant.clone());
        let line = line(rows, name, tenant);
        charge(line, &r.usage, r.cost);
        line.requests += 1;
    }
    match by {
        CostBy::Day => rows.sort_by_key(|r| r.name.as_ref().and_then(|n| n.parse::<i64>().ok())),
        _ => rows.sort_by(|a, b| {
            (Reverse(a.cost), &a.tenant, &a.name).cmp(&(Reverse(b.cost), &b.tenant, &b.name))
        }),
    }
}

fn charge(line: &mut CostRow, usage: &Usage, cost: Money) {
    line.input_tokens = line.input_tokens.saturating_add(usage.input_tokens);
    line.output_tokens = line.output_tokens.saturating_add(usage.output_tokens);
    line.cost += cost;
}

fn line(rows: &mut Vec<CostRow>, name: Option<String>, tenant: Option<contract::TenantId>) -> &mut CostRow {
    let at = rows.iter().position(|r| r.name == name && r.tenant == tenant).unwrap_or_else(|| {
        rows.push(CostRow {
            name,
            tenant,
            requests: 0,
            input_tokens: 0,
            output_tokens: 0,
            cost: Money::ZERO,
        });
        rows.len() - 1
    });
    #[expect(clippy::indexing_slicing, reason = "found or pushed above")]
    &mut rows[at]
}

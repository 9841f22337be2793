//! The ledger: one record per request, written once, whatever happens to the process.
//!
//! `Admitted → Settled` is the life of a request here. An `Admitted` that no `Settled` follows before the process dies
//! becomes a record that ended as [`contract::Ending::Lost`] at the next start, its usage estimated by the reservation:
//! the counters after a crash equal the ledger.

pub(crate) mod bill;
mod entry;
mod handle;
mod settled;
mod writer;

use contract::{
    BoxFuture, KeyId, ModelName, Money, PipelineName, RequestId, RequestRecord, TenantId, UnixMillis, UserId,
};

use serde::{Deserialize, Serialize};

pub(crate) use entry::record;
pub use entry::{Admitted, Entry};
pub use handle::{Health, Ledger, Recovery, Settings};
pub use settled::{Settled, SettledAttempt, SettledColumns};

use crate::Error;
use crate::journal::Position;

/// Which records to list. Every field that is set must match.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Who pays.
    pub tenant: Option<TenantId>,
    /// The pipeline.
    pub pipeline: Option<PipelineName>,
    /// The model asked for by a plain model call.
    pub model: Option<ModelName>,
    /// Arrived at this time or later.
    pub since: Option<UnixMillis>,
}

impl Filter {
    /// Whether `r` matches.
    pub fn matches(&self, r: &RequestRecord) -> bool {
        self.tenant.as_ref().is_none_or(|t| *t == r.tenant)
            && self.pipeline.as_ref().is_none_or(|p| Some(p) == r.pipeline.as_ref())
            && self.model.as_ref().is_none_or(|m| Some(m) == r.model.as_ref())
            && self.since.is_none_or(|s| s <= r.at)
    }
}

/// What costs are summed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CostBy {
    /// Who pays.
    Tenant,
    /// The model of each attempt; a request without any counts for the model it asked for.
    Model,
    /// The pipeline.
    Pipeline,
    /// The API key.
    Key,
    /// The end user, within the tenant.
    User,
    /// The UTC day, named as whole days since the epoch.
    Day,
}

/// One line of a bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostRow {
    /// Whose; `None` for requests that have none (no pipeline, no key, no user).
    pub name: Option<String>,
    /// The tenant, for [`CostBy::User`] alone: users of two tenants are never one line.
    pub tenant: Option<TenantId>,
    /// How many requests.
    pub requests: u64,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Money.
    pub cost: Money,
}

/// Something that a budget can be set for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// A tenant.
    Tenant(TenantId),
    /// An API key.
    Key(KeyId),
    /// A user of a tenant.
    User(TenantId, UserId),
    /// A pipeline.
    Pipeline(PipelineName),
}

/// What a scope has used in a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeSpent {
    /// Whose.
    pub scope: Scope,
    /// Tokens in and out.
    pub tokens: u64,
    /// Money.
    pub cost: Money,
}

impl ScopeSpent {
    /// What a row of a sum says of the scope that it is of; `None` for one without a name.
    pub fn of(by: CostBy, row: CostRow) -> Option<ScopeSpent> {
        let CostRow { name, tenant, input_tokens, output_tokens, cost, .. } = row;
        let name = name?;
        let scope = match (by, tenant) {
            (CostBy::Tenant, _) => Scope::Tenant(TenantId::from(name)),
            (CostBy::Key, _) => Scope::Key(KeyId::from(name)),
            (CostBy::User, Some(tenant)) => Scope::User(tenant, UserId::from(name)),
            _ => Scope::Pipeline(PipelineName::from(name)),
        };
        Some(ScopeSpent { scope, tokens: input_tokens.saturating_add(output_tokens), cost })
    }
}

/// Where the ledger is kept for good.
///
/// Contract: `apply` is atomic and idempotent by request id, and its position is visible exactly when its entries are.
/// Reads see everything applied before they began. Sums are integers and saturate nowhere below 2⁵² per record. Times
/// are half-open ranges `from ≤ at < to`. Dropping a future may leave `apply` done or not done, never half done.
pub trait LedgerStore: Send + Sync {
    /// Writes the entries and the position behind them in one transaction.
    ///
    /// An `Admitted` opens a request unless it is settled already; a `Settled` closes it and is ignored when the request
    /// has a record already.
    fn apply<'a>(&'a self, entries: &'a [Entry], position: Position) -> BoxFuture<'a, Result<(), Error>>;
    /// The position of the last `apply`.
    fn position(&self) -> BoxFuture<'_, Result<Position, Error>>;
    /// Requests that were admitted and have no record yet.
    fn open_requests(&self) -> BoxFuture<'_, Result<Vec<Admitted>, Error>>;
    /// The record of a request.
    fn get(&self, id: RequestId) -> BoxFuture<'_, Result<Option<RequestRecord>, Error>>;
    /// The newest records first, by arrival, at most `limit`.
    fn recent<'a>(
        &'a self,
        limit: u32,
        filter: &'a Filter,
    ) -> BoxFuture<'a, Result<Vec<RequestRecord>, Error>>;
    /// Sums, dearest first, except days, which are in order.
    fn costs(
        &self,
        by: CostBy,
        from: UnixMillis,
        to: UnixMillis,
    ) -> BoxFuture<'_, Result<Vec<CostRow>, Error>>;
    /// What every scope has used in the window: restores the counters of budgets at the start.
    fn spent_by_scope(
        &self,
        from: UnixMillis,
        to: UnixMillis,
    ) -> BoxFuture<'_, Result<Vec<ScopeSpent>, Error>>;
}

//! Tracking and the registry of models: **experiments**, **runs** with what was logged of them, **logged models**, **registered
//! models** with their versions and aliases, and the **webhooks** that are told of those. The semantics are those of MLflow's tracking server, so that its clients are at home.
//!
//! All of it is written once over [`Sql`], which each database carries out (one conformance suite runs on each). Whatever is read or
//! changed goes by way of a tenant ([`Tracking::of`]): the tenant is part of every key by which something is found, so that nobody
//! finds what is another's.
//!
//! What is logged of runs (metrics, parameters, tags) is committed in groups: whoever comes while a commit is under way waits for it
//! and goes with the next, in one transaction with all others that wait [test: what_is_logged_at_once_is_all_there]. It is answered
//! when it is [`Commit::Written`]: a `kill -9` of the process cannot undo it [test: what_was_logged_survives_kill_9], as is promised of
//! the ledger's records. Everything else is [`Commit::Synced`].

mod aliases;
mod entities;
mod events;
mod experiments;
pub mod filter;
mod group;
mod inputs;
mod json;
mod log;
mod logged_models;
mod metrics;
mod refused;
mod registry;
mod rollouts;
mod runs;
mod search;
mod sql;
mod versions;
mod webhooks;

use std::collections::BTreeSet;
use std::sync::Arc;

use contract::TenantId;
use parking_lot::Mutex;

pub use aliases::AliasChange;
pub use entities::{
    Dataset, DatasetInput, Experiment, Logged, Metric, NewTrackedRun, Page, Pair, Run, RunInfo, RunUpdate,
    Search, Stage, View,
};
pub use events::Event;
pub use logged_models::{DatasetNamed, LoggedModel, ModelOrder, ModelSearch, NewLoggedModel};
pub use metrics::RunMetric;
pub use refused::{Refused, Why};
pub use registry::{PROMPT, RegisteredModel, is_prompt};
pub use rollouts::{AliasMove, RolloutChange, RolloutEvent, SavedRollouts};
pub use sql::{Arg, Commit, Dialect, Insert, Row, Sql, SqlTx};
pub use versions::{ModelVersion, NewModelVersion};
pub use webhooks::{MOST_WEBHOOKS, NewRegistryWebhook, RegistryWebhook, WebhookUpdate, webhook_id};

use crate::Error;
use group::Group;
use sql::Statement;

/// Experiments, runs and models in a database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracking {
    db: Arc<dyn Sql>,
    group: Arc<Group>,
    /// Tenants that have their first experiment.
    begun: Arc<Mutex<BTreeSet<TenantId>>>,
}

/// What a tenant has.
#[derive(Debug, Clone, Copy)]
pub struct TenantTracking<'a> {
    all: &'a Tracking,
    tenant: &'a TenantId,
}

impl Tracking {
    /// Kept in `db`.
    pub fn new(db: Arc<dyn Sql>) -> Self {
        Tracking { db, group: Arc::default(), begun: Arc::default() }
    }

    /// What that tenant has.
    pub fn of<'a>(&'a self, tenant: &'a TenantId) -> TenantTracking<'a> {
        TenantTracking { all: self, tenant }
    }
}

impl TenantTracking<'_> {
    fn db(&self) -> &dyn Sql {
        &*self.all.db
    }

    fn tenant(&self) -> Arg {
        self.tenant.as_str().into()
    }

    /// A number that whoever changes lists of the tenant holds meanwhile.
    fn number(&self) -> i64 {
        let hash = blake3::hash(self.tenant.as_str().as_bytes());
        let mut first = [0; 8];
        for (to, from) in first.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        i64::from_le_bytes(first)
    }

    /// Begins a change of what the tenant has, which nobody else of the tenant's makes meanwhile.
    async fn change(&self) -> Result<Box<dyn SqlTx>, Error> {
        let mut tx = self.db().begin(Commit::Synced).await?;
        tx.lock(self.number()).await?;
        Ok(tx)
    }

    async fn read(&self, statement: Statement) -> Result<Vec<Row>, Error> {
        self.db().read(&statement.sql, statement.args).await
    }
}

/// Runs a statement in a transaction.
async fn run(tx: &mut dyn SqlTx, statement: Statement) -> Result<Vec<Row>, Error> {
    tx.query(&statement.sql, statement.args).await
}

//! Rollouts of registered models: where they are, and what became of them.
//!
//! What a rollout is, this does not know: a text for each registered model, with a revision. It is saved by whoever knows the revision
//! that he decided on, in one transaction with what was decided: aliases move and events are kept with it or not at all, so that of
//! servers that decide at once one wins [test: a_rollout_is_saved_with_what_it_does_or_not_at_all].

use super::sql::Statement;
use super::{Row, SqlTx, TenantTracking, run};
use crate::Error;

/// The rollouts of a registered model, as they were saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRollouts {
    /// The registered model.
    pub name: String,
    /// How often they were saved, from one.
    pub revision: i64,
    /// What they are.
    pub state: String,
}

/// Something that happened in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutEvent {
    /// The version that comes.
    pub version: i64,
    /// When.
    pub at: i64,
    /// What, in a word.
    pub what: String,
    /// All of it.
    pub event: String,
}

/// An alias that moves with what is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasMove {
    /// Which.
    pub alias: String,
    /// What it must stand for now.
    pub from: Option<i64>,
    /// What it stands for from now on; nothing takes it away.
    pub to: Option<i64>,
}

/// What is saved at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutChange<'a> {
    /// The revision that it was decided on; zero when there was none.
    pub revision: i64,
    /// What the rollouts are now.
    pub state: &'a str,
    /// What happened.
    pub events: &'a [RolloutEvent],
    /// Aliases that move.
    pub moves: &'a [AliasMove],
}

fn saved(row: &Row) -> Result<SavedRollouts, Error> {
    Ok(SavedRollouts { name: row.text(0)?, revision: row.int(1)?, state: row.text(2)? })
}

impl TenantTracking<'_> {
    /// The rollouts of a registered model; nothing when there never were any.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn rollouts(&self, name: &str) -> Result<Option<SavedRollouts>, Error> {
        let mut s = Statement::new("SELECT name, revision, state FROM ml_rollouts WHERE tenant = ");
        s.bind(self.tenant()).push(" AND name = ").bind(name);
        self.read(s).await?.first().map(saved).transpose()
    }

    /// Those of all registered models, by name.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn all_rollouts(&self) -> Result<Vec<SavedRollouts>, Error> {
        let mut s = Statement::new("SELECT name, revision, state FROM ml_rollouts WHERE tenant = ");
        s.bind(self.tenant()).push(" ORDER BY name");
        self.read(s).await?.iter().map(saved).collect()
    }

    /// Saves rollouts with what they do, if nobody saved them since and every alias stands for what was thought: whether they were.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without a version that an alias is to stand for.
    pub async fn save_rollouts(
        &self,
        name: &str,
        change: RolloutChange<'_>,
        now: i64,
    ) -> Result<bool, Error> {
        let mut tx = self.change().await?;
        let mut s = match change.revision {
            0 => {
                let mut s =
                    Statement::new("INSERT INTO ml_rollouts (tenant, name, revision, state, at) VALUES (");
                s.bind(self.tenant()).push(", ").bind(name).push(", 1, ").bind(change.state);
                s.push(", ").bind(now).push(") ON CONFLICT (tenant, name) DO NOTHING");
                s
            }
            revision => {
                let mut s = Statement::new("UPDATE ml_rollouts SET revision = revision + 1, state = ");
                s.bind(change.state).push(", at = ").bind(now).push(" WHERE tenant = ").bind(self.tenant());
                s.push(" AND name = ").bind(name).push(" AND revision = ").bind(revision);
                s
            }
        };
        s.push(" RETURNING revision");
        if run(&mut *tx, s).await?.is_empty() {
            return Ok(false);
        }
        for step in change.moves {
            if !self.moved(&mut *tx, name, step, now).await? {
                return Ok(false);
            }
        }
        for event in change.events {
            let mut s = Statement::new(
                "INSERT INTO ml_rollout_events (tenant, name, version, at, what, event) VALUES (",
            );
            s.bind(self.tenant()).push(", ").bind(name).push(", ").bind(event.version).push(", ");
            s.bind(event.at).push(", ").bind(&event.what).push(", ").bind(&event.event).push(")");
            run(&mut *tx, s).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    async fn moved(&self, tx: &mut dyn SqlTx, name: &str, step: &AliasMove, now: i64) -> Result<bool, Error> {
        let num = match step.to {
            Some(to) => self.find_version(tx, name, to).await?,
            None => self.find_registered(tx, name).await?.0,
        };
        let mut s = Statement::new("SELECT version FROM ml_aliases WHERE registered = ");
        s.bind(num).push(" AND alias = ").bind(&step.alias);
        let stands = run(tx, s).await?.first().map(|r| r.maybe_int(0)).transpose()?.flatten();
        if stands != step.from {
            return Ok(false);
        }
        if stands == step.to {
            return Ok(true);
        }
        self.log_alias(tx, (name, &step.alias), step.to, (now, now)).await?;
        self.put_alias(tx, (num, name, &step.alias), step.to, now).await?;
        Ok(true)
    }

    /// What happened in the rollouts of a registered model, or in those of one of its versions: the newest `limit`, oldest first.
    ///
    /// # Errors
    /// A database that does not answer.
    pub async fn rollout_events(
        &self,
        name: &str,
        version: Option<i64>,
        limit: u32,
    ) -> Result<Vec<RolloutEvent>, Error> {
        let mut s = Statement::new("SELECT version, at, what, event FROM ml_rollout_events WHERE tenant = ");
        s.bind(self.tenant()).push(" AND name = ").bind(name);
        if let Some(version) = version {
            s.push(" AND version = ").bind(version);
        }
        s.push(" ORDER BY num DESC LIMIT ").bind(i64::from(limit));
        let event = |row: &Row| {
            Ok(RolloutEvent {
                version: row.int(0)?,
                at: row.int(1)?,
                what: row.text(2)?,
                event: row.text(3)?,
            })
        };
        let mut found = self.read(s).await?.iter().map(event).collect::<Result<Vec<_>, Error>>()?;
        found.reverse();
        Ok(found)
    }
}

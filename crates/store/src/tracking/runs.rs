//! Runs: made, read whole, changed, deleted and restored.

use std::collections::HashMap;

use super::entities::value_of;
use super::experiments::inactive;
use super::sql::{Insert, Row, Statement};
use super::{
    Arg, Metric, NewTrackedRun, Pair, Refused, Run, RunInfo, RunUpdate, SqlTx, Stage, TenantTracking, json,
    run,
};
use crate::Error;

/// The tag that is a run's name.
pub(super) const RUN_NAME: &str = "mlflow.runName";

pub(super) fn missing(id: &str) -> Error {
    Refused::missing(format!("Run with id={id} not found")).into()
}

pub(super) fn must_be_active(id: &str, stage: Stage) -> Result<(), Error> {
    if stage == Stage::Active {
        return Ok(());
    }
    let stage = stage.as_str();
    Err(Refused::invalid(format!("The run {id} must be in the 'active' state. Current state is {stage}."))
        .into())
}

/// The columns of a run `r` of an experiment `e`, in the order of [`info`].
pub(super) const INFO: &str =
    "r.id, r.name, e.id, r.user_id, r.status, r.started_at, r.ended_at, r.stage, r.location";

/// A row that begins with [`INFO`] at `at`.
pub(super) fn info(row: &Row, at: usize) -> Result<RunInfo, Error> {
    Ok(RunInfo {
        id: row.text(at)?,
        name: row.text(at + 1)?,
        experiment: row.int(at + 2)?,
        user: row.text(at + 3)?,
        status: row.text(at + 4)?,
        started_at: row.maybe_int(at + 5)?,
        ended_at: row.maybe_int(at + 6)?,
        stage: Stage::of(row.str(at + 7)?),
        location: row.text(at + 8)?,
    })
}

/// A run as a change finds it.
pub(super) struct Found {
    pub(super) num: i64,
    pub(super) experiment: i64,
    pub(super) stage: Stage,
}

impl TenantTracking<'_> {
    /// Makes a run. Its name is its tag `mlflow.runName` too.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without its experiment; [`Why::Invalid`](super::Why::Invalid) with a deleted one.
    pub async fn create_run(&self, new: &NewTrackedRun, now: i64) -> Result<Run, Error> {
        self.begin_tenant(now).await?;
        let mut tx = self.change().await?;
        let of = self.find_experiment(&mut *tx, new.experiment).await?;
        if of.stage != Stage::Active {
            return Err(inactive(new.experiment, of.stage));
        }
        let location = format!("{}/{}/artifacts", of.location.trim_end_matches('/'), new.id);
        let mut s = Statement::new(
            "INSERT INTO ml_runs (status, stage, tenant, id, experiment, name, user_id, started_at, location) \
             VALUES ('RUNNING', 'active', ",
        );
        s.bind(self.tenant()).push(", ").bind(&new.id).push(", ").bind(of.num).push(", ").bind(&new.name);
        s.push(", ").bind(&new.user).push(", ").bind(new.started_at).push(", ").bind(&location);
        s.push(") RETURNING num");
        let num = run(&mut *tx, s).await?.first().ok_or_else(|| missing(&new.id))?.int(0)?;
        let mut tags = new.tags.clone();
        if !tags.iter().any(|(k, _)| k == RUN_NAME) {
            tags.push((RUN_NAME.to_owned(), new.name.clone()));
        }
        set_tags(&mut *tx, num, &tags).await?;
        tx.commit().await?;
        self.run(&new.id).await
    }

    pub(super) async fn find_run(&self, tx: &mut dyn SqlTx, id: &str) -> Result<Found, Error> {
        let mut s = Statement::new("SELECT num, experiment, stage FROM ml_runs WHERE tenant = ");
        s.bind(self.tenant()).push(" AND id = ").bind(id);
        let rows = run(tx, s).await?;
        let row = rows.first().ok_or_else(|| missing(id))?;
        Ok(Found { num: row.int(0)?, experiment: row.int(1)?, stage: Stage::of(row.str(2)?) })
    }

    /// The same, of one that is not deleted.
    pub(super) async fn find_active_run(&self, tx: &mut dyn SqlTx, id: &str) -> Result<Found, Error> {
        let found = self.find_run(tx, id).await?;
        must_be_active(id, found.stage)?;
        Ok(found)
    }

    /// A run with all that was logged of it.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn run(&self, id: &str) -> Result<Run, Error> {
        let mut s = Statement::new("SELECT num FROM ml_runs WHERE tenant = ");
        s.bind(self.tenant()).push(" AND id = ").bind(id);
        let num = self.read(s).await?.first().ok_or_else(|| missing(id))?.int(0)?;
        let mut found = self.load(&[num]).await?;
        found.pop().ok_or_else(|| missing(id))
    }

    /// Runs by their numbers in the database, in that order.
    pub(super) async fn load(&self, nums: &[i64]) -> Result<Vec<Run>, Error> {
        if nums.is_empty() {
            return Ok(Vec::new());
        }
        let d = self.db().dialect();
        let params = d.rows("key, value", "ml_params WHERE run = r.num", "key");
        let tags = d.rows("key, value", "ml_tags WHERE run = r.num", "key");
        // A double goes by its bits: the text of one may be a neighbour's.
        let metrics = d.rows("key, bits, nan, at, step", "ml_latest WHERE run = r.num", "key");
        let list: Vec<String> = nums.iter().map(i64::to_string).collect();
        let list = list.join(", ");
        let s = Statement::new(format!(
            "SELECT r.num, {INFO}, {params}, {tags}, {metrics} FROM ml_runs r \
             JOIN ml_experiments e ON e.num = r.experiment WHERE r.num IN ({list})"
        ));
        let mut found: HashMap<i64, Run> = HashMap::with_capacity(nums.len());
        for row in self.read(s).await? {
            let run = Run {
                info: info(&row, 1)?,
                params: json::pairs(row.str(10)?)?,
                tags: json::pairs(row.str(11)?)?,
                metrics: metrics_of(row.str(12)?)?,
                datasets: Vec::new(),
                model_inputs: Vec::new(),
                model_outputs: Vec::new(),
            };
            found.insert(row.int(0)?, run);
        }
        self.add_inputs(&list, &mut found).await?;
        Ok(nums.iter().filter_map(|n| found.remove(n)).collect())
    }

    /// Changes what is known of a run itself.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing); [`Why::Invalid`](super::Why::Invalid) of a deleted one.
    pub async fn update_run(&self, id: &str, update: &RunUpdate) -> Result<RunInfo, Error> {
        let mut tx = self.db().begin(super::Commit::Synced).await?;
        let found = self.find_active_run(&mut *tx, id).await?;
        let mut s = Statement::new("UPDATE ml_runs SET stage = 'active'");
        if let Some(status) = &update.status {
            s.push(", status = ").bind(status);
        }
        if let Some(at) = update.ended_at {
            s.push(", ended_at = ").bind(at);
        }
        let name = update.name.as_deref().filter(|n| !n.is_empty());
        if let Some(name) = name {
            s.push(", name = ").bind(name);
        }
        s.push(" WHERE num = ").bind(found.num);
        run(&mut *tx, s).await?;
        if let Some(name) = name {
            set_tags(&mut *tx, found.num, &[(RUN_NAME.to_owned(), name.to_owned())]).await?;
        }
        let mut s = Statement::new(format!(
            "SELECT {INFO} FROM ml_runs r JOIN ml_experiments e ON e.num = r.experiment WHERE r.num = "
        ));
        s.bind(found.num);
        let now = run(&mut *tx, s).await?.first().map_or_else(|| Err(missing(id)), |row| info(row, 0))?;
        tx.commit().await?;
        Ok(now)
    }

    /// Deletes a run or restores it; again, if need be.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn stage_run(&self, id: &str, stage: Stage, now: i64) -> Result<(), Error> {
        let mut tx = self.db().begin(super::Commit::Synced).await?;
        let found = self.find_run(&mut *tx, id).await?;
        let mut s = Statement::new("UPDATE ml_runs SET stage = ");
        s.bind(stage.as_str()).push(", deleted_at = ").bind((stage == Stage::Deleted).then_some(now));
        s.push(" WHERE num = ").bind(found.num);
        run(&mut *tx, s).await?;
        tx.commit().await
    }

    /// Removes a tag.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) of the run or the tag; [`Why::Invalid`](super::Why::Invalid) of a deleted run.
    pub async fn untag_run(&self, id: &str, key: &str) -> Result<(), Error> {
        let mut tx = self.db().begin(super::Commit::Synced).await?;
        let found = self.find_active_run(&mut *tx, id).await?;
        let mut s = Statement::new("DELETE FROM ml_tags WHERE run = ");
        s.bind(found.num).push(" AND key = ").bind(key).push(" RETURNING key");
        if run(&mut *tx, s).await?.is_empty() {
            return Err(Refused::missing(format!("No tag with name: {key} in run with id {id}")).into());
        }
        tx.commit().await
    }
}

/// Sets tags of a run; the last of a key counts.
pub(super) async fn set_tags(tx: &mut dyn SqlTx, num: i64, tags: &[Pair]) -> Result<(), Error> {
    let mut last: Vec<&Pair> = Vec::with_capacity(tags.len());
    for tag in tags {
        match last.iter_mut().find(|t| t.0 == tag.0) {
            Some(earlier) => *earlier = tag,
            None => last.push(tag),
        }
    }
    let values: Vec<Arg> =
        last.iter().flat_map(|(k, v)| [Arg::from(num), Arg::from(k), Arg::from(v)]).collect();
    let tail = " ON CONFLICT (run, key) DO UPDATE SET value = excluded.value";
    tx.insert(vec![Insert::new("INSERT INTO ml_tags (run, key, value)", 3, tail, values)]).await
}

#[expect(clippy::cast_sign_loss, reason = "the bits of a double")]
fn metrics_of(text: &str) -> Result<Vec<Metric>, Error> {
    let rows: Vec<(String, i64, i64, i64, i64)> = json::rows(text)?;
    let metric = |(key, bits, nan, at, step): (String, i64, i64, i64, i64)| {
        Metric::new(key, value_of(f64::from_bits(bits as u64), nan != 0), at, step)
    };
    Ok(rows.into_iter().map(metric).collect())
}

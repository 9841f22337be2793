//! Experiments: what runs belong to.

use super::sql::{Row, Statement};
use super::{Arg, Experiment, Pair, Refused, SqlTx, Stage, TenantTracking, json, run};
use crate::Error;

/// Where the artifacts of an experiment go unless somebody says otherwise.
pub(super) fn location(id: i64) -> String {
    format!("mlflow-artifacts:/{id}")
}

pub(super) fn missing(id: i64) -> Error {
    Refused::missing(format!("No Experiment with id={id} exists")).into()
}

pub(super) fn inactive(id: i64, stage: Stage) -> Error {
    let stage = stage.as_str();
    Refused::invalid(format!("The experiment {id} must be in the 'active' state. Current state is {stage}."))
        .into()
}

/// An experiment as a change finds it.
pub(super) struct Found {
    pub(super) num: i64,
    pub(super) stage: Stage,
    pub(super) location: String,
}

impl TenantTracking<'_> {
    /// The columns of an experiment `e`, in the order of [`experiment`].
    pub(super) fn experiment_columns(&self) -> String {
        let tags =
            self.db().dialect().rows("key, value", "ml_experiment_tags WHERE experiment = e.num", "key");
        format!("e.id, e.name, e.location, e.stage, e.created_at, e.updated_at, {tags}")
    }

    /// Makes the experiment `Default`, number 0, for a tenant that has none.
    pub(super) async fn begin_tenant(&self, now: i64) -> Result<(), Error> {
        if self.all.begun.lock().contains(self.tenant) {
            return Ok(());
        }
        let mut s = Statement::new("SELECT 1 FROM ml_experiments WHERE id = 0 AND tenant = ");
        s.bind(self.tenant());
        if self.read(s).await?.is_empty() {
            let mut tx = self.change().await?;
            let mut s = Statement::new(
                "INSERT INTO ml_experiments (id, name, stage, location, tenant, created_at, updated_at) \
                 VALUES (0, 'Default', 'active', ",
            );
            s.bind(location(0)).push(", ").bind(self.tenant());
            s.push(", ").bind(now).push(", ").bind(now).push(") ON CONFLICT DO NOTHING");
            run(&mut *tx, s).await?;
            tx.commit().await?;
        }
        self.all.begun.lock().insert(self.tenant.clone());
        Ok(())
    }

    /// Makes an experiment; its number. `at` is where its artifacts go, if not where all go.
    ///
    /// # Errors
    /// [`Why::Exists`](super::Why::Exists) when the name is taken, also by a deleted one.
    pub async fn create_experiment(
        &self,
        name: &str,
        at: Option<&str>,
        tags: &[Pair],
        now: i64,
    ) -> Result<i64, Error> {
        self.begin_tenant(now).await?;
        let mut tx = self.change().await?;
        if self.taken(&mut *tx, name).await? {
            return Err(Refused::exists(format!("Experiment(name={name}) already exists.")).into());
        }
        let mut s = Statement::new("SELECT MAX(id) FROM ml_experiments WHERE tenant = ");
        s.bind(self.tenant());
        let last = run(&mut *tx, s).await?.first().map(|r| r.maybe_int(0)).transpose()?.flatten();
        let id = last.map_or(0, |n| n + 1);
        let at = at.map_or_else(|| location(id), str::to_owned);
        let mut s = Statement::new(
            "INSERT INTO ml_experiments (stage, tenant, id, name, location, created_at, updated_at) VALUES ('active', ",
        );
        s.bind(self.tenant()).push(", ").bind(id).push(", ").bind(name).push(", ").bind(at);
        s.push(", ").bind(now).push(", ").bind(now).push(") RETURNING num");
        let num = run(&mut *tx, s).await?.first().ok_or_else(|| missing(id))?.int(0)?;
        for (key, value) in tags {
            set_tag(&mut *tx, num, key, value).await?;
        }
        tx.commit().await?;
        Ok(id)
    }

    async fn taken(&self, tx: &mut dyn SqlTx, name: &str) -> Result<bool, Error> {
        let mut s = Statement::new("SELECT 1 FROM ml_experiments WHERE tenant = ");
        s.bind(self.tenant()).push(" AND name = ").bind(name);
        Ok(!run(tx, s).await?.is_empty())
    }

    /// The experiment of that number, deleted or not.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing).
    pub async fn experiment(&self, id: i64, now: i64) -> Result<Experiment, Error> {
        self.begin_tenant(now).await?;
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_experiments e WHERE e.tenant = ",
            self.experiment_columns()
        ));
        s.bind(self.tenant()).push(" AND e.id = ").bind(id);
        self.read(s).await?.first().map_or_else(|| Err(missing(id)), experiment)
    }

    /// The experiment of that name, deleted or not.
    pub async fn experiment_by_name(&self, name: &str, now: i64) -> Result<Option<Experiment>, Error> {
        self.begin_tenant(now).await?;
        let mut s = Statement::new(format!(
            "SELECT {} FROM ml_experiments e WHERE e.tenant = ",
            self.experiment_columns()
        ));
        s.bind(self.tenant()).push(" AND e.name = ").bind(name);
        self.read(s).await?.first().map(experiment).transpose()
    }

    pub(super) async fn find_experiment(&self, tx: &mut dyn SqlTx, id: i64) -> Result<Found, Error> {
        let mut s = Statement::new("SELECT num, stage, location FROM ml_experiments WHERE tenant = ");
        s.bind(self.tenant()).push(" AND id = ").bind(id);
        let rows = run(tx, s).await?;
        let row = rows.first().ok_or_else(|| missing(id))?;
        Ok(Found { num: row.int(0)?, stage: Stage::of(row.str(1)?), location: row.text(2)? })
    }

    /// Deletes an experiment or restores it, with its runs.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing), also when it is in that stage already.
    pub async fn stage_experiment(&self, id: i64, stage: Stage, now: i64) -> Result<(), Error> {
        self.begin_tenant(now).await?;
        let mut tx = self.change().await?;
        let found = self.find_experiment(&mut *tx, id).await?;
        if found.stage == stage {
            return Err(missing(id));
        }
        let mut s = Statement::new("UPDATE ml_experiments SET stage = ");
        s.bind(stage.as_str()).push(", updated_at = ").bind(now).push(" WHERE num = ").bind(found.num);
        run(&mut *tx, s).await?;
        let mut s = Statement::new("UPDATE ml_runs SET stage = ");
        s.bind(stage.as_str()).push(", deleted_at = ").bind((stage == Stage::Deleted).then_some(now));
        s.push(" WHERE experiment = ").bind(found.num).push(" AND stage <> ").bind(stage.as_str());
        run(&mut *tx, s).await?;
        tx.commit().await
    }

    /// Gives an experiment another name.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing); [`Why::State`](super::Why::State) of a deleted one;
    /// [`Why::Exists`](super::Why::Exists).
    pub async fn rename_experiment(&self, id: i64, name: &str, now: i64) -> Result<(), Error> {
        self.begin_tenant(now).await?;
        let mut tx = self.change().await?;
        let found = self.find_experiment(&mut *tx, id).await?;
        if found.stage != Stage::Active {
            return Err(Refused::state("Cannot rename a non-active experiment.").into());
        }
        let mut s = Statement::new("SELECT num FROM ml_experiments WHERE tenant = ");
        s.bind(self.tenant()).push(" AND name = ").bind(name);
        if let Some(row) = run(&mut *tx, s).await?.first()
            && row.int(0)? != found.num
        {
            return Err(Refused::exists(format!("Experiment(name={name}) already exists.")).into());
        }
        let mut s = Statement::new("UPDATE ml_experiments SET name = ");
        s.bind(name).push(", updated_at = ").bind(now).push(" WHERE num = ").bind(found.num);
        run(&mut *tx, s).await?;
        tx.commit().await
    }

    /// Sets a tag of an experiment, or removes it when there is no value.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing), also of the tag that is to be removed;
    /// [`Why::Invalid`](super::Why::Invalid) of a deleted one.
    pub async fn tag_experiment(
        &self,
        id: i64,
        key: &str,
        value: Option<&str>,
        now: i64,
    ) -> Result<(), Error> {
        self.begin_tenant(now).await?;
        let mut tx = self.change().await?;
        let found = self.find_experiment(&mut *tx, id).await?;
        if found.stage != Stage::Active {
            return Err(inactive(id, found.stage));
        }
        match value {
            Some(value) => set_tag(&mut *tx, found.num, key, value).await?,
            None => {
                let mut s = Statement::new("DELETE FROM ml_experiment_tags WHERE experiment = ");
                s.bind(found.num).push(" AND key = ").bind(key).push(" RETURNING key");
                if run(&mut *tx, s).await?.is_empty() {
                    let m = format!("No tag with name: {key} in experiment with id {id}");
                    return Err(Refused::missing(m).into());
                }
            }
        }
        tx.commit().await
    }
}

async fn set_tag(tx: &mut dyn SqlTx, experiment: i64, key: &str, value: &str) -> Result<(), Error> {
    let sql = "INSERT INTO ml_experiment_tags (experiment, key, value) VALUES ($1, $2, $3) \
               ON CONFLICT (experiment, key) DO UPDATE SET value = excluded.value";
    let args: Vec<Arg> = vec![experiment.into(), key.into(), value.into()];
    tx.query(sql, args).await.map(drop)
}

/// A row of [`TenantTracking::experiment_columns`].
pub(super) fn experiment(row: &Row) -> Result<Experiment, Error> {
    Ok(Experiment {
        id: row.int(0)?,
        name: row.text(1)?,
        location: row.text(2)?,
        stage: Stage::of(row.str(3)?),
        created_at: row.int(4)?,
        updated_at: row.int(5)?,
        tags: json::pairs(row.str(6)?)?,
    })
}

//! What runs read and made: datasets and logged models.

use std::collections::HashMap;

use super::sql::Statement;
use super::{Arg, Dataset, DatasetInput, Pair, Run, SqlTx, TenantTracking, json, run};
use crate::Error;

/// The tag of an input that says what it is for.
const CONTEXT: &str = "mlflow.data.context";
/// Roles of models.
const READ: i64 = 0;
const MADE: i64 = 1;

impl TenantTracking<'_> {
    /// Notes datasets and logged models that a run read. A dataset is known by name and digest in its experiment; the first
    /// description of it stays, and so do the tags of an input that there is.
    ///
    /// # Errors
    /// [`Why::Missing`](super::Why::Missing) without the run; [`Why::Invalid`](super::Why::Invalid) of a deleted one.
    pub async fn log_inputs(
        &self,
        id: &str,
        datasets: &[DatasetInput],
        models: &[String],
    ) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let found = self.find_active_run(&mut *tx, id).await?;
        for input in datasets {
            let dataset = keep(&mut *tx, found.experiment, &input.dataset).await?;
            let context = input.tags.iter().find(|(k, _)| k == CONTEXT).map(|(_, v)| v.as_str());
            let mut s = Statement::new("INSERT INTO ml_inputs (run, dataset, context, tags) VALUES (");
            s.bind(found.num).push(", ").bind(dataset).push(", ").bind(context);
            s.push(", ").bind(serde_json::to_string(&input.tags)?).push(") ON CONFLICT DO NOTHING");
            run(&mut *tx, s).await?;
        }
        for model in models {
            let mut s = Statement::new("DELETE FROM ml_run_models WHERE role = 0 AND run = ");
            s.bind(found.num).push(" AND model = ").bind(model);
            run(&mut *tx, s).await?;
            note(&mut *tx, (found.num, READ), model, 0).await?;
        }
        tx.commit().await
    }

    /// Notes logged models that a run made, and at which step.
    ///
    /// # Errors
    /// As [`Self::log_inputs`].
    pub async fn log_outputs(&self, id: &str, models: &[(String, i64)]) -> Result<(), Error> {
        let mut tx = self.change().await?;
        let found = self.find_active_run(&mut *tx, id).await?;
        for (model, step) in models {
            note(&mut *tx, (found.num, MADE), model, *step).await?;
        }
        tx.commit().await
    }

    /// Adds to runs what they read and made. `nums` are their numbers in the database.
    pub(super) async fn add_inputs(&self, nums: &str, runs: &mut HashMap<i64, Run>) -> Result<(), Error> {
        let s = Statement::new(format!(
            "SELECT i.run, d.name, d.digest, d.source_type, d.source, d.fields, d.profile, i.tags FROM ml_inputs i \
             JOIN ml_datasets d ON d.num = i.dataset WHERE i.run IN ({nums}) ORDER BY i.run, d.num"
        ));
        for row in self.read(s).await? {
            let dataset = Dataset {
                name: row.text(1)?,
                digest: row.text(2)?,
                source_type: row.text(3)?,
                source: row.text(4)?,
                schema: row.maybe_text(5)?,
                profile: row.maybe_text(6)?,
            };
            let tags: Vec<Pair> = json::rows(row.str(7)?)?;
            if let Some(run) = runs.get_mut(&row.int(0)?) {
                run.datasets.push(DatasetInput { dataset, tags });
            }
        }
        let s = Statement::new(format!(
            "SELECT run, role, model, step FROM ml_run_models WHERE run IN ({nums}) ORDER BY num"
        ));
        for row in self.read(s).await? {
            let Some(run) = runs.get_mut(&row.int(0)?) else { continue };
            match row.int(1)? {
                MADE => run.model_outputs.push((row.text(2)?, row.int(3)?)),
                _ => run.model_inputs.push(row.text(2)?),
            }
        }
        Ok(())
    }
}

async fn note(tx: &mut dyn SqlTx, (num, role): (i64, i64), model: &str, step: i64) -> Result<(), Error> {
    let sql = "INSERT INTO ml_run_models (run, role, model, step) VALUES ($1, $2, $3, $4)";
    let args: Vec<Arg> = vec![num.into(), role.into(), model.into(), step.into()];
    tx.query(sql, args).await.map(drop)
}

/// The number of a dataset, which is kept when there is none like it.
async fn keep(tx: &mut dyn SqlTx, experiment: i64, new: &Dataset) -> Result<i64, Error> {
    let mut s = Statement::new("SELECT num FROM ml_datasets WHERE experiment = ");
    s.bind(experiment).push(" AND name = ").bind(&new.name).push(" AND digest = ").bind(&new.digest);
    if let Some(row) = run(tx, s).await?.first() {
        return row.int(0);
    }
    let mut s = Statement::new(
        "INSERT INTO ml_datasets (experiment, name, digest, source_type, source, fields, profile) VALUES (",
    );
    s.bind(experiment)
        .push(", ")
        .bind(&new.name)
        .push(", ")
        .bind(&new.digest)
        .push(", ")
        .bind(&new.source_type);
    s.push(", ").bind(&new.source).push(", ").bind(&new.schema).push(", ").bind(&new.profile);
    s.push(") RETURNING num");
    run(tx, s).await?.first().ok_or(Error::Contended)?.int(0)
}

//! The tracked run of a stage: begun before the work, found again by whoever tries again, ended with it or killed.

use bytes::Bytes;
use pipeline::task;
use store::tracking::{
    Dataset, DatasetInput, Logged, Metric, NewTrackedRun, Pair, Refused, Run, RunUpdate, Why,
};

use super::candidate::parted;
use super::error::{kept, stored};
use super::job::Job;
use super::{Tracked, candidate};
use crate::Error;
use crate::artifacts::ArtifactPath;
use crate::uri;

/// Values of a curve that are noted.
const POINTS: usize = 1_000;

/// A run under way. Dropped before it ended, it is killed.
pub(super) struct Tracking<'a> {
    job: &'a Job<'a>,
    pub(super) run: Run,
    ended: bool,
}

impl Drop for Tracking<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let (tracked, tenant, id) =
            (self.job.tracked().clone(), self.job.tenant().clone(), self.run.info.id.clone());
        let now = self.job.now();
        let end = async move {
            let update = RunUpdate { status: Some("KILLED".to_owned()), ended_at: Some(now), name: None };
            if let Err(error) = tracked.tracking.of(&tenant).update_run(&id, &update).await {
                tracing::debug!(run = id, %error, "a tracked run stays open");
            }
        };
        task::beside("end a tracked run", end);
    }
}

impl<'a> Tracking<'a> {
    /// The run of this attempt's effect: a new one, or the one that an attempt before it began.
    pub(super) async fn begin(job: &'a Job<'a>, model: &str) -> Result<Tracking<'a>, contract::Error> {
        let digest = blake3::hash(job.attempt.effect.as_bytes()).to_hex();
        let id = digest.get(..32).unwrap_or_default().to_owned();
        let run = match job.tracking().run(&id).await {
            Ok(run) => {
                let again = RunUpdate { status: Some("RUNNING".to_owned()), ..RunUpdate::default() };
                job.tracking().update_run(&id, &again).await.map_err(stored)?;
                run
            }
            Err(store::Error::Refused(Refused { why: Why::Missing, .. })) => {
                Self::created(job, id, model).await?
            }
            Err(e) => return Err(stored(e)),
        };
        job.say(format!("tracked as {} ({})", run.info.name, run.info.id));
        Ok(Tracking { job, run, ended: false })
    }

    async fn created(job: &Job<'_>, id: String, model: &str) -> Result<Run, contract::Error> {
        let pipeline = job.attempt.pipeline.as_str();
        let experiment = experiment(job, pipeline).await?;
        let tag = |key: &str, value: String| (key.to_owned(), value);
        let mut tags = vec![
            tag("mlflow.source.name", format!("{pipeline}.{}", job.stage)),
            tag("mlflow.source.type", "JOB".to_owned()),
            tag("forebay.run", job.attempt.run.to_string()),
            tag("forebay.pipeline", pipeline.to_owned()),
            tag("forebay.stage", job.stage.to_string()),
            tag("forebay.model_id", model.to_owned()),
        ];
        if let Some(git) = job.means.git().await {
            tags.push(tag("mlflow.source.git.commit", git.commit));
            tags.extend(git.repository.map(|from| tag("mlflow.source.git.repoURL", from)));
            tags.extend(git.dirty.map(|dirty| tag("forebay.git.dirty", dirty.to_string())));
        }
        let now = job.now();
        let random = u64::from_str_radix(id.get(..15).unwrap_or_default(), 16).unwrap_or_default();
        let new = NewTrackedRun {
            id,
            experiment,
            name: crate::random_name(random),
            user: job.tenant().as_str().to_owned(),
            started_at: now,
            tags,
        };
        job.tracking().create_run(&new, now).await.map_err(stored)
    }

    /// Puts a file among the run's artifacts.
    pub(super) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<(), contract::Error> {
        let tracked = self.job.tracked();
        put(tracked, self.job.tenant(), &self.run.info.location, path, bytes).await.map_err(kept)
    }

    /// Notes the table that it reads, what is to be predicted of it, and for what it reads it.
    pub(super) async fn reads(
        &self,
        table: &str,
        (target, context): (&str, &str),
    ) -> Result<(), contract::Error> {
        let (name, version) = parted(table);
        let dataset = Dataset {
            name: name.to_owned(),
            // No longer than MLflow's column for it.
            digest: version.get(..32).unwrap_or(version).to_owned(),
            source_type: "forebay".to_owned(),
            source: serde_json::json!({"dataset": name, "version": version}).to_string(),
            schema: None,
            profile: Some(serde_json::json!({"target": target}).to_string()),
        };
        let tags = vec![("mlflow.data.context".to_owned(), context.to_owned())];
        let inputs = [DatasetInput { dataset, tags }];
        self.job.tracking().log_inputs(&self.run.info.id, &inputs, &[]).await.map_err(stored)
    }

    /// Notes parameters, figures and a figure round by round.
    pub(super) async fn log(
        &self,
        params: Vec<Pair>,
        figures: &[(String, f64)],
        curve: (&str, &[f64]),
    ) -> Result<(), contract::Error> {
        let now = self.job.now();
        let mut metrics: Vec<Metric> =
            figures.iter().map(|(key, value)| Metric::new(key.clone(), *value, now, 0)).collect();
        let (name, curve) = curve;
        let every = curve.len().div_ceil(POINTS).max(1);
        metrics.extend(curve.iter().enumerate().step_by(every).map(|(round, value)| {
            Metric::new(name, *value, now, i64::try_from(round + 1).unwrap_or(i64::MAX))
        }));
        let logged = Logged { metrics, params, tags: Vec::new() };
        self.job.tracking().log(&self.run.info.id, logged).await.map_err(stored)
    }

    /// The work ended, and this came of it.
    pub(super) async fn ended<T>(self, done: Result<T, contract::Error>) -> Result<T, contract::Error> {
        if let Err(e) = &done {
            self.job.say(&e.message);
        }
        self.end(if done.is_ok() { "FINISHED" } else { "FAILED" }).await?;
        done
    }

    async fn end(mut self, status: &str) -> Result<(), contract::Error> {
        let update =
            RunUpdate { status: Some(status.to_owned()), ended_at: Some(self.job.now()), name: None };
        self.job.tracking().update_run(&self.run.info.id, &update).await.map_err(stored)?;
        self.ended = true;
        Ok(())
    }
}

/// The experiment of that name, made if there is none.
async fn experiment(job: &Job<'_>, name: &str) -> Result<i64, contract::Error> {
    let (tracking, now) = (job.tracking(), job.now());
    if let Some(found) = tracking.experiment_by_name(name, now).await.map_err(stored)? {
        return Ok(found.id);
    }
    match tracking.create_experiment(name, None, &[], now).await {
        Ok(id) => Ok(id),
        // Another stage came first.
        Err(store::Error::Refused(Refused { why: Why::Exists, .. })) => {
            let found = tracking.experiment_by_name(name, now).await.map_err(stored)?;
            found.map(|e| e.id).ok_or_else(|| {
                let m = format!("the experiment `{name}` was deleted: restore it in the tracking server");
                contract::Error::new(contract::Code::InvalidRequest, m)
            })
        }
        Err(e) => Err(stored(e)),
    }
}

/// Where artifacts of an address are.
pub(super) fn place(location: &str, path: &str) -> Result<ArtifactPath, Error> {
    let root = uri::artifact(location).ok_or_else(|| {
        Refused::invalid(format!("the artifacts at `{location}` are not kept by this server"))
    })?;
    Ok(ArtifactPath::new(root)?.join(path)?)
}

/// Puts a file among the artifacts of an address, whole or not at all.
pub(super) async fn put(
    tracked: &Tracked,
    tenant: &contract::TenantId,
    location: &str,
    path: &str,
    bytes: Vec<u8>,
) -> Result<(), Error> {
    let mut writer = tracked.artifacts.create(tenant, &place(location, path)?).await?;
    writer.write(Bytes::from(bytes)).await?;
    writer.finish().await
}

/// Adds files, figures and tags to the run that made a candidate, which has ended.
pub(super) async fn add(
    job: &Job<'_>,
    candidate: &candidate::Candidate,
    files: Vec<(&str, Vec<u8>)>,
    logged: Logged,
) -> Result<(), contract::Error> {
    let run = job.tracking().run(&candidate.run).await.map_err(stored)?;
    for (path, bytes) in files {
        put(job.tracked(), job.tenant(), &run.info.location, path, bytes).await.map_err(kept)?;
    }
    job.tracking().log(&candidate.run, logged).await.map_err(stored)
}

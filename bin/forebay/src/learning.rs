//! What the stages that make models are given of the project: tables as columns, who grows trees, who runs models, who signs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{BoxFuture, Code, Context, Error as Refusal, Value};
use data::stages::{Extension, PART};
use data::{Adds, Bucket, Typed};
use models::artifacts::{Artifacts, Folder};
use models::gate::seal::Signer;
use models::stages::{Configured, Means, Scores, Scoring, Tracked};
use models::train::{Column, Frame, Values};
use pipeline::Git;
use pipeline::artifacts::Artifacts as Files;
use predict::Backend;
use store::tracking::Tracking;

use crate::Error;
use crate::bucket::InBucket;
use crate::config::model::ModelConfig;
use crate::config::{Config, Env};
use crate::signing::Key;
use crate::stages::Project;
use crate::worker::beside;

/// The project as these stages see it.
pub(crate) struct Learning {
    pub(crate) folder: PathBuf,
    /// Its tables.
    pub(crate) project: Arc<Project>,
    pub(crate) files: Files,
    /// The models of the configuration.
    pub(crate) models: BTreeMap<String, Configured>,
    /// Nothing where a configuration is only checked.
    pub(crate) tracked: Option<Tracked>,
}

/// The models of a configuration, as stages ask them.
pub(crate) fn configured(config: &Config) -> BTreeMap<String, Configured> {
    let one = |(name, m): (&String, &ModelConfig)| {
        let of = match (&m.onnx, &m.registry) {
            (Some(file), _) => Configured::File(file.into()),
            (None, Some(name)) => Configured::Registered { name: name.clone(), alias: m.alias().to_owned() },
            (None, None) => Configured::Language,
        };
        (name.clone(), of)
    };
    config.models.iter().map(one).collect()
}

/// Where runs and models are noted, with their artifacts where `storage.artifacts` says, or else in the project's folder.
///
/// # Errors
/// What is configured names no bucket.
pub(crate) fn tracked(
    project: &Path,
    configured: Option<&str>,
    env: &Env,
    tracking: Tracking,
) -> Result<Tracked, Error> {
    let artifacts: Arc<dyn Artifacts> = match configured {
        None => Arc::new(Folder::new(project.join(".forebay").join("tracking"))),
        Some(root) => {
            let bucket = Bucket::open(root, &env.beginning_with("AWS_"));
            let help = "correct `storage.artifacts` in forebay.yaml: `s3://BUCKET/PREFIX`";
            Arc::new(InBucket::new(bucket.map_err(|e| Error::new(format!("cannot {e}"), help))?))
        }
    };
    Ok(Tracked { tracking, artifacts })
}

impl Means for Learning {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn frame<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Frame, Refusal>> {
        Box::pin(async move { framed(data::stages::columns(&*self.project, table).await?) })
    }

    fn model(&self, name: &str) -> Option<Configured> {
        self.models.get(name).cloned()
    }

    fn scored<'a>(
        &'a self,
        cx: &'a Context,
        table: &'a str,
        scoring: Scoring,
    ) -> BoxFuture<'a, Result<Value, Refusal>> {
        let Scoring { keep, stamp, model, .. } = &scoring;
        let (keep, stamp, made_of) = (keep.clone(), stamp.clone(), vec![model.clone()]);
        let adds: Box<dyn Adds> = Box::new(Scored(scoring));
        let extension = Extension { keep, stamp, made_of, part: PART, adds };
        Box::pin(async move { data::stages::extend(&*self.project, cx, table, extension).await })
    }

    fn files(&self) -> Files {
        self.files.clone()
    }

    fn tracked(&self) -> Option<Tracked> {
        self.tracked.clone()
    }

    fn worker(&self) -> PathBuf {
        beside("forebay-lightgbm")
    }

    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(onnx::Onnx::default())
    }

    fn signer(&self) -> Result<Arc<dyn Signer + Send + Sync>, Refusal> {
        let key = Key::of(&self.folder).map_err(|e| {
            Refusal::new(Code::StorageUnavailable, format!("decisions cannot be signed: {e}"))
        })?;
        Ok(Arc::new(key))
    }

    fn git<'a>(&'a self) -> BoxFuture<'a, Option<Git>> {
        Box::pin(pipeline::git(&self.folder))
    }
}

/// Columns that a model works out, as the tables take them.
struct Scored(Scoring);

impl Adds for Scored {
    fn needs(&self) -> Option<Vec<String>> {
        self.0.needs.clone()
    }

    fn columns(&self) -> Vec<data::Column> {
        let columns = self.0.columns.iter();
        let column = |(name, scores): &(String, Scores)| data::Column {
            name: name.clone(),
            ty: added(scores.clone()).column_type(),
        };
        columns.map(column).collect()
    }

    fn add(&mut self, rows: Typed) -> Result<Vec<data::Values>, Refusal> {
        let scores = (self.0.score)(&framed(rows)?)?;
        Ok(scores.into_iter().map(added).collect())
    }
}

fn added(scores: Scores) -> data::Values {
    match scores {
        Scores::Numbers(all) => data::Values::Numbers(all),
        Scores::Wholes(all) => data::Values::Wholes(all),
        Scores::Texts(all) => data::Values::Texts(all),
    }
}

fn framed(typed: Typed) -> Result<Frame, Refusal> {
    let columns = typed.columns.into_iter().map(|(name, cells)| Column { name, values: values(cells) });
    Frame::new(columns.collect()).map_err(|e| Refusal::new(Code::InvalidRequest, format!("cannot {e}")))
}

fn values(cells: data::Cells) -> Values {
    match cells {
        data::Cells::Numbers(all) => Values::Number(all),
        // A missing word and a missing time are told alike by both.
        data::Cells::Texts { codes, words } => Values::Category { codes, words },
        data::Cells::Times(all) => Values::Time(all),
    }
}

const _: () = assert!(data::Cells::MISSING == Values::MISSING && data::Cells::NEVER == Values::NEVER);

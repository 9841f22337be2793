//! What the stages that make models are given of the project: tables as columns, who grows trees, who runs models, who signs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::{BoxFuture, Code, Error as Refusal};
use models::artifacts::Folder;
use models::gate::seal::Signer;
use models::stages::{Means, Tracked};
use models::train::{Column, Frame, Values};
use pipeline::Git;
use pipeline::artifacts::Artifacts as Files;
use predict::Backend;
use store::tracking::Tracking;

use crate::signing::Key;
use crate::stages::Project;
use crate::worker::beside;

/// The project as these stages see it.
pub(crate) struct Learning {
    pub(crate) folder: PathBuf,
    /// Its tables.
    pub(crate) project: Arc<Project>,
    pub(crate) files: Files,
    /// Nothing where a configuration is only checked.
    pub(crate) tracked: Option<Tracked>,
}

/// Where the project's artifacts of runs and models are.
pub(crate) fn artifacts(project: &Path) -> Folder {
    Folder::new(project.join(".forebay").join("tracking"))
}

/// Where runs and models are noted, with their artifacts in the project's folder.
pub(crate) fn tracked(folder: &Path, tracking: Tracking) -> Tracked {
    Tracked { tracking, artifacts: Arc::new(artifacts(folder)) }
}

impl Means for Learning {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn frame<'a>(&'a self, table: &'a str) -> BoxFuture<'a, Result<Frame, Refusal>> {
        Box::pin(async move {
            let typed = data::stages::columns(&*self.project, table).await?;
            let columns =
                typed.columns.into_iter().map(|(name, cells)| Column { name, values: values(cells) });
            Frame::new(columns.collect())
                .map_err(|e| Refusal::new(Code::InvalidRequest, format!("cannot {e}")))
        })
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

fn values(cells: data::Cells) -> Values {
    match cells {
        data::Cells::Numbers(all) => Values::Number(all),
        // A missing word and a missing time are told alike by both.
        data::Cells::Texts { codes, words } => Values::Category { codes, words },
        data::Cells::Times(all) => Values::Time(all),
    }
}

const _: () = assert!(data::Cells::MISSING == Values::MISSING && data::Cells::NEVER == Values::NEVER);

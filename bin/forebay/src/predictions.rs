//! The project's predictive models: ONNX files that the configuration names, loaded beside the server's work.
//!
//! A version's name is of its content: a file that changed is another version, which is served once it is loaded, and the one before
//! stays in memory for the way back as long as there is room. What cannot be loaded changes nothing, and is shown with its reason
//! (`POST /v2/repository/index`).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::Clock;
use parking_lot::Mutex;
use pipeline::task::{self, Task};
use predict::batch::queue::Limits;
use predict::served::{Instances, Sharing, Source};
use predict::{Artifact, LoadSettings, Models};

use crate::config::Config;
use crate::config::model::ModelConfig;

/// How much memory predictive models may take together.
const MEMORY: u64 = 4 << 30;

/// The models of a project, and what loads them. Clones are the same.
#[derive(Clone)]
pub(crate) struct Predictions {
    project: PathBuf,
    models: Models,
    /// The load that is under way; another takes its place.
    loading: Arc<Mutex<Option<Task<()>>>>,
}

impl Predictions {
    /// None yet.
    pub(crate) fn new(project: &Path, clock: Arc<dyn Clock>) -> Self {
        let backend = Arc::new(onnx::Onnx::default());
        let models = Models::new(backend, MEMORY, clock);
        Predictions { project: project.to_owned(), models, loading: Arc::default() }
    }

    /// What the gateway serves.
    pub(crate) fn models(&self) -> Models {
        self.models.clone()
    }

    /// Loads what a configuration names, and forgets what it does not, beside everything else.
    pub(crate) fn apply(&self, config: &Config) {
        let sources: Vec<(String, PathBuf, Source)> =
            config.models.iter().filter_map(|(name, m)| self.source(name, m)).collect();
        self.models.retain(|name| sources.iter().any(|(own, ..)| own == name));
        if sources.is_empty() {
            return;
        }
        let models = self.models.clone();
        let load = async move {
            for (name, file, source) in sources {
                if let Err(error) = bring(&models, &name, file, source).await {
                    tracing::error!(model = %name, %error, "a predictive model is not served");
                }
            }
        };
        *self.loading.lock() = Some(task::spawn("load models", load));
    }

    fn source(&self, name: &str, m: &ModelConfig) -> Option<(String, PathBuf, Source)> {
        let file = self.project.join(m.onnx.as_ref()?);
        let count = |n: u64| usize::try_from(n).ok().and_then(NonZeroUsize::new);
        let batch = m.batch;
        let limits = Limits {
            max_rows: usize::try_from(batch.max_rows.0).unwrap_or(usize::MAX).max(1),
            delay: batch.delay.0,
            requests: usize::try_from(batch.queue.0).unwrap_or(usize::MAX).max(1),
            ..Limits::default()
        };
        let sharing = match batch.share {
            None => Sharing::Tried,
            Some(true) => Sharing::Always,
            Some(false) => Sharing::Never,
        };
        let threads = m.threads.and_then(|t| count(t.0)).unwrap_or(NonZeroUsize::MIN);
        let instances = m.instances.and_then(|n| count(n.0)).map_or(Instances::Measured, Instances::Exactly);
        let artifact = Artifact::File(file.clone());
        let source = Source { artifact, load: LoadSettings { threads }, instances, sharing, limits };
        Some((name.to_owned(), file, source))
    }
}

/// Loads the version that a file is, and serves it.
async fn bring(models: &Models, name: &str, file: PathBuf, source: Source) -> Result<(), predict::Error> {
    let unreadable =
        |e: &dyn std::fmt::Display| predict::Error::Load(format!("the model file cannot be read: {e}"));
    let sum = task::reading("sum of a model", move || sum(&file)).await;
    let version = sum.map_err(|e| unreadable(&e))?.map_err(|e| unreadable(&e))?;
    models.load(name, &version, source).await?;
    models.serve(name, &version)?;
    Ok(())
}

/// The first twelve digits of a content's hash.
fn sum(file: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(file)?)?;
    Ok(hasher.finalize().to_hex().chars().take(12).collect())
}

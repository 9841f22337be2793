//! The project's predictive models, and its choices of chat models, pipelines and prompts: ONNX files and models of the registry that the configuration names, loaded beside the server's
//! work. Those of the registry are followed by `following`.
//!
//! A version's name is of its content: a file that changed is another version, which is served once it is loaded, and the one before
//! stays in memory for the way back as long as there is room. What cannot be loaded changes nothing, and is shown with its reason
//! (`POST /v2/repository/index`).

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use contract::Clock;
use models::stages::Tracked;
use parking_lot::Mutex;
use pipeline::task::{self, Task};
use predict::batch::queue::Limits;
use predict::observe::Observers;
use predict::served::{Instances, Sharing, Source};
use predict::{Artifact, LoadSettings, Models};

use crate::choosing::{Choices, Options};
use crate::config::Config;
use crate::config::choice::ChoiceOf;
use crate::config::model::ModelConfig;
use crate::following::{Follow, Serves, follow};
use crate::rolling::Rolling;

/// How much memory predictive models may take together.
const MEMORY: u64 = 4 << 30;

/// The models of a project, and what loads them. Clones are the same.
#[derive(Clone)]
pub(crate) struct Predictions {
    project: PathBuf,
    models: Models,
    /// The load that is under way; another takes its place.
    loading: Arc<Mutex<Option<Task<()>>>>,
    tracked: Tracked,
    clock: Arc<dyn Clock>,
    rolling: Rolling,
    choices: Choices,
    /// Who follows aliases of the registry.
    following: Arc<Mutex<Option<Task<()>>>>,
}

impl Predictions {
    /// None yet.
    pub(crate) fn new(
        project: &Path,
        clock: Arc<dyn Clock>,
        tracked: Tracked,
        (observers, choices): (Observers, Choices),
    ) -> Self {
        let backend = Arc::new(onnx::Onnx::default());
        let models = Models::new(backend, MEMORY, clock.clone());
        let rolling = Rolling::new(models.clone(), tracked.clone(), clock.clone(), observers);
        let (project, loading, following) = (project.to_owned(), Arc::default(), Arc::default());
        Predictions { project, models, loading, tracked, clock, rolling, choices, following }
    }

    /// What the gateway serves.
    pub(crate) fn models(&self) -> Models {
        self.models.clone()
    }

    /// Who looks at answers for the rollouts.
    pub(crate) fn rolling(&self) -> Rolling {
        self.rolling.clone()
    }

    /// Loads what a configuration names, and forgets what it does not, beside everything else.
    pub(crate) fn apply(&self, config: &Config) {
        let file = |(name, m): (&String, &ModelConfig)| {
            let file = self.project.join(m.onnx.as_ref()?);
            Some((name.clone(), file.clone(), source(m, Artifact::File(file))))
        };
        let sources: Vec<(String, PathBuf, Source)> = config.models.iter().filter_map(file).collect();
        let predictive = |(name, m): (&String, &ModelConfig)| {
            let source = source(m, Artifact::Content(Bytes::new()));
            let (registered, serves) = (m.registry.clone()?, Serves::Predictive(Box::new(source)));
            Some(Follow { name: name.clone(), registered, alias: m.alias().to_owned(), serves })
        };
        let chosen = |of: ChoiceOf<'_>| {
            let options = Options::of(&self.project, of.among).inspect_err(|error| {
                tracing::error!(choice = %of.name, %error, "what answered first answers");
            });
            let serves = Serves::Choice(self.choices.of(of.name), options.ok()?);
            let (name, alias) = (of.name.to_owned(), of.alias.to_owned());
            Some(Follow { registered: name.clone(), name, alias, serves })
        };
        let followed = config.models.iter().filter_map(predictive);
        let followed: Vec<Follow> = followed.chain(config.all_choices().filter_map(chosen)).collect();
        let named =
            |name: &str| followed.iter().any(|f| f.name == name) || sources.iter().any(|s| s.0 == name);
        let names = config.models.iter().filter(|(_, m)| m.predicts()).map(|(name, _)| name.clone());
        self.models.expect(names.collect());
        self.models.retain(named);
        self.rolling.retain(|name| followed.iter().any(|f| f.name == name));
        self.choices.retain(|name| config.all_choices().any(|of| of.name == name));
        let (models, tracked, rolling) = (self.models.clone(), self.tracked.clone(), self.rolling.clone());
        let clock = self.clock.clone();
        *self.following.lock() = (!followed.is_empty()).then(|| {
            task::kept("follow aliases", move || {
                let models = (models.clone(), clock.clone());
                follow(models, tracked.clone(), rolling.clone(), followed.clone())
            })
        });
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
}

/// How a model is run.
fn source(m: &ModelConfig, artifact: Artifact) -> Source {
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
    let registered = m.registry.as_deref().map(Into::into);
    Source { artifact, registered, load: LoadSettings { threads }, instances, sharing, limits }
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

//! Models of the registry, and choices of chat models, pipelines and prompts, served by what their aliases stand for.
//!
//! Each alias is looked at again and again: moved by whomever (a gate's decision, a command, a client of MLflow, another server on the
//! same database), it is followed within [`LOOK`] and the time that a version takes to load. To go back to a version that is in memory
//! is to store a pointer. With each look goes one at the rollouts of the model, which divide its traffic (`rolling`). Whatever cannot be loaded changes nothing; an alias that is taken away takes the model out of service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use contract::{Clock, TenantId};
use models::choice::{self, Stand};
use models::stages::{Tracked, file_of, find};
use pipeline::task;
use predict::served::{Router, Source};
use predict::{Artifact, Models};
use store::tracking::ModelVersion;

use crate::choosing::{Choice, Options};
use crate::rolling::{Rolling, Stands};

/// How often aliases are looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What versions of a model are.
#[derive(Clone)]
pub(crate) enum Serves {
    /// Predictive models: how they are run; the artifact is filled in.
    Predictive(Box<Source>),
    /// A word for which of these answers.
    Choice(Arc<Choice>, Options),
}

/// A model that follows an alias.
#[derive(Clone)]
pub(crate) struct Follow {
    /// What it is called here.
    pub(crate) name: String,
    /// What it is called in the registry.
    pub(crate) registered: String,
    /// The alias.
    pub(crate) alias: String,
    /// What its versions are.
    pub(crate) serves: Serves,
}

impl Follow {
    /// Divides its requests, or no more.
    pub(crate) fn route_by(&self, models: &Models, way: Option<Arc<dyn Router>>) {
        match &self.serves {
            Serves::Predictive(_) => models.route_by(&self.name, way),
            Serves::Choice(choice, _) => choice.route_by(way),
        }
    }
}

/// What is known of a model that is followed.
#[derive(Debug, Default)]
struct Known {
    /// The version that is served; nothing at first, and when the alias stands for none.
    served: Option<i64>,
    /// Versions that were loaded from the registry as it is now.
    loaded: BTreeSet<i64>,
    /// What went wrong last, so that it is said once.
    failed: Option<Failed>,
    /// Whether the alias was looked at: before, nobody knows what is served.
    looked: bool,
}

/// A failure.
#[derive(Debug)]
struct Failed {
    why: String,
    /// What the alias stood for, as far as that was known. Another version is looked at at once.
    version: Option<i64>,
    /// How many looks are left out before it is tried again.
    left: u32,
}

/// Looks left out after a failure: a version that cannot be loaded is tried again every ten seconds.
const PAUSE: u32 = 40;

/// Follows these aliases until it is dropped.
pub(crate) async fn follow(
    (models, clock): (Models, Arc<dyn Clock>),
    tracked: Tracked,
    rolling: Rolling,
    all: Vec<Follow>,
) {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    loop {
        for of in &all {
            let known = known.entry(of.name.clone()).or_default();
            look((&models, &*clock, &rolling), &tracked, of, known).await;
            if known.looked {
                let Known { served, loaded, .. } = known;
                rolling.look(of, Stands { served: *served, loaded }).await;
            }
        }
        task::sleep(LOOK).await;
    }
}

async fn look(by: (&Models, &dyn Clock, &Rolling), tracked: &Tracked, of: &Follow, known: &mut Known) {
    let stands = standing(tracked, of).await;
    let version = stands.as_ref().ok().and_then(|stands| stands.as_ref().map(|version| version.version));
    if let Some(failed) = known.failed.as_mut().filter(|failed| failed.left > 0 && failed.version == version)
    {
        failed.left -= 1;
        return;
    }
    let brought = match stands {
        Ok(stands) => bring(by, tracked, of, (known, stands)).await,
        Err(why) => Err(why),
    };
    match brought {
        Ok(()) => (known.failed, known.looked) = (None, true),
        Err(why) => {
            if known.failed.as_ref().is_none_or(|before| before.why != why) {
                tracing::error!(model = %of.name, registered = %of.registered, alias = %of.alias, error = %why, "a model of the registry is not served as it should be");
            }
            known.failed = Some(Failed { why, version, left: PAUSE });
        }
    }
}

/// Serves what the alias stands for now.
async fn bring(
    (models, clock, rolling): (&Models, &dyn Clock, &Rolling),
    tracked: &Tracked,
    of: &Follow,
    (known, mut version): (&mut Known, Option<ModelVersion>),
) -> Result<(), String> {
    let tenant = TenantId::of_the_project();
    if let Serves::Choice(_, options) = &of.serves
        && version.is_none()
        && let Some(first) = options.first()
    {
        let named = (of.registered.as_str(), of.alias.as_str());
        choice::begin(tracked, &tenant, named, first, clock.wall()).await.map_err(|e| e.to_string())?;
        version = standing(tracked, of).await?;
    }
    let Some(version) = version else {
        if let Serves::Choice(choice, _) = &of.serves {
            choice.serve(None);
        }
        if known.served.take().is_some() {
            known.loaded.clear();
            tracing::warn!(model = %of.name, alias = %of.alias, "the alias stands for nothing any more: the model is out of service");
            if let Serves::Predictive(_) = &of.serves {
                models.unload(&of.name, None).map_err(|e| e.to_string())?;
            }
        }
        return Ok(());
    };
    let number = version.version;
    if known.served == Some(number) {
        return Ok(());
    }
    let source = match &of.serves {
        Serves::Predictive(source) => source,
        Serves::Choice(choice, options) => {
            // Whoever answered goes on, as far as that model is one of the choice's still; what was divided is not.
            choice.learn(&version, options).inspect_err(|_| rolling.leave(of))?;
            choice.serve(Some(number));
            known.loaded.insert(number);
            hint(of, options, &version);
            said(of, number, known.served.replace(number));
            return Ok(());
        }
    };
    let named = number.to_string();
    // In memory already: the way back is a pointer.
    let warm = known.loaded.contains(&number) && models.serve(&of.name, &named).is_ok();
    if !warm {
        let file = file_of(tracked, &tenant, &version).await.map_err(|e| e.to_string())?;
        let source = Source { artifact: Artifact::Content(file), ..Source::clone(source) };
        models.load(&of.name, &named, source).await.map_err(|e| e.to_string())?;
        models.serve(&of.name, &named).map_err(|e| e.to_string())?;
        known.loaded.insert(number);
    }
    said(of, number, known.served.replace(number));
    Ok(())
}

/// What the alias stands for now, if for anything.
async fn standing(tracked: &Tracked, of: &Follow) -> Result<Option<ModelVersion>, String> {
    match find(tracked, &TenantId::of_the_project(), &of.registered, Ok(of.alias.as_str())).await {
        Ok(version) => Ok(version),
        // Nobody has registered it yet.
        Err(e) if e.is_missing() => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

/// A file that was changed since is told from what answers.
fn hint(of: &Follow, options: &Options, version: &ModelVersion) {
    if let Some(Stand::Prompt(file)) = options.first()
        && choice::prompt_of(version).is_ok_and(|text| text != file)
    {
        let (name, version) = (&of.name, version.version);
        tracing::info!(prompt = %name, version, "the registry's version answers, which is not what the prompt's file says: `forebay models choose {name} FILE` brings the file's text");
    }
}

fn said(of: &Follow, version: i64, before: Option<i64>) {
    tracing::info!(model = %of.name, registered = %of.registered, alias = %of.alias, version, before, "another version answers");
}

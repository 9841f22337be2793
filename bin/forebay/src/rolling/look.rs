//! A look at the rollouts of a model: versions are loaded, what was seen is saved, what is decided is done.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::TenantId;
use models::rolling::{self, Changed, Kept, State, Watched};
use models::rollout::{Action, Input, Rollout, Todo};
use models::stages::{file_of, find};
use predict::Artifact;
use predict::served::Source;

use super::table::{Table, Way};
use super::{OfModel, Rolling};
use crate::following::{Follow, Serves};

/// How often what was seen is saved, when nothing is urgent; and how often time passes.
const SAVE: Duration = Duration::from_secs(1);
/// Looks in which another version answers than the rollouts think, before that is told to them: an alias and the rollouts are read
/// one after the other.
const ASTRAY: u32 = 3;

/// What a look stands on: the version that the alias stands for, and those that are in memory.
pub(crate) struct Stands<'a> {
    pub(crate) served: Option<i64>,
    pub(crate) loaded: &'a mut BTreeSet<i64>,
}

impl Rolling {
    /// Looks at the rollouts of a model. What goes wrong is said once, and tried again with the next look.
    pub(crate) async fn look(&self, of: &Follow, stands: Stands<'_>) {
        let looked = self.bring(of, stands).await;
        let own = self.of(&of.name);
        let mut last = own.looked.lock();
        match looked {
            Ok(()) => last.failed = None,
            Err(why) => {
                if last.failed.as_ref() != Some(&why) {
                    tracing::error!(model = %of.name, registered = %of.registered, error = %why, "a rollout does not go on");
                }
                last.failed = Some(why);
            }
        }
    }

    async fn bring(&self, of: &Follow, stands: Stands<'_>) -> Result<(), String> {
        let (tenant, tracked) = (TenantId::of_the_project(), &self.0.tracked);
        let saved = tracked.tracking.of(&tenant).rollouts(&of.registered).await.map_err(|e| e.to_string())?;
        let Some(saved) = saved else { return Ok(()) };
        let own = self.of(&of.name);
        let known = own.looked.lock().kept.clone().filter(|k| k.revision == saved.revision);
        let kept = match known {
            Some(kept) => kept,
            None => rolling::read(&saved.name, saved.revision, &saved.state).map_err(|e| e.to_string())?,
        };
        if kept.state.alias != of.alias || kept.state.releases.rollouts().is_empty() {
            own.looked.lock().kept = Some(kept);
            self.end(of, &own);
            return Ok(());
        }
        self.watch(&own, &kept.state);
        let Stands { served, loaded } = stands;
        let kept = self.load(of, &own, kept, (served, &mut *loaded)).await?;
        self.install(of, &own, &kept.state, loaded);
        let kept = self.tell(of, &own, kept, served).await?;
        self.install(of, &own, &kept.state, loaded);
        own.looked.lock().kept = Some(kept);
        Ok(())
    }

    /// Nobody knows who is served: nothing is divided here until somebody does.
    pub(crate) fn leave(&self, of: &Follow) {
        if let Some(own) = self.known(&of.name) {
            self.end(of, &own);
        }
    }

    /// Nothing is rolled out any more: whoever is served answers.
    fn end(&self, of: &Follow, own: &OfModel) {
        if own.table.swap(None).is_some() {
            of.route_by(&self.0.models, None);
            own.collector.lock().watch(&[]);
            own.looked.lock().unloadable.clear();
            self.count();
        }
    }

    fn watch(&self, own: &OfModel, state: &State) {
        let one = |r: &Rollout| Watched {
            challenger: r.challenger().to_owned(),
            metrics: r.settings().metrics().iter().map(|m| m.name.clone()).collect(),
            slow_above_ms: r.settings().slow_above_ms(),
        };
        let all: Vec<Watched> = state.releases.rollouts().iter().map(one).collect();
        own.collector.lock().watch(&all);
    }

    /// Divides traffic as a state says.
    fn install(&self, of: &Follow, own: &OfModel, state: &State, loaded: &BTreeSet<i64>) {
        let loaded: BTreeSet<String> = loaded.iter().map(ToString::to_string).collect();
        let before = own.table.load_full();
        let same = |t: &Arc<Table>| t.releases == state.releases && t.loaded == loaded;
        if before.as_ref().is_some_and(same) {
            return;
        }
        let table = Arc::new(Table { releases: state.releases.clone(), loaded });
        own.table.store(Some(table.clone()));
        of.route_by(&self.0.models, Some(Arc::new(Way(table))));
        self.0.busy.store(true, Ordering::Relaxed);
    }

    /// Loads the versions that come. One that cannot be loaded is taken back, with the reason.
    async fn load(
        &self,
        of: &Follow,
        own: &OfModel,
        mut kept: Kept,
        (served, loaded): (Option<i64>, &mut BTreeSet<i64>),
    ) -> Result<Kept, String> {
        let all = kept.state.releases.rollouts().iter().map(|r| r.challenger().to_owned());
        for challenger in all.collect::<Vec<_>>() {
            let Ok(number) = challenger.parse::<i64>() else { continue };
            let there = loaded.contains(&number)
                && match &of.serves {
                    Serves::Predictive(_) => {
                        self.0.models.peek(&of.name, &challenger).is_ok_and(|v| v.is_some())
                    }
                    Serves::Choice(..) => true,
                };
            if there || own.looked.lock().unloadable.contains(&challenger) {
                continue;
            }
            match self.load_one(of, number, served).await {
                Ok(()) => _ = loaded.insert(number),
                Err(why) => {
                    loaded.remove(&number);
                    own.looked.lock().unloadable.insert(challenger.clone());
                    let input = Input::RollBack { by: "forebay".to_owned(), why };
                    kept = self
                        .change(of, |state, now| state.releases.apply(&challenger, now, input.clone()))
                        .await?;
                }
            }
        }
        Ok(kept)
    }

    async fn load_one(&self, of: &Follow, number: i64, served: Option<i64>) -> Result<(), String> {
        let (tenant, tracked) = (TenantId::of_the_project(), &self.0.tracked);
        let said = |e: models::Error| e.to_string();
        let version = find(tracked, &tenant, &of.registered, Err(number)).await.map_err(said)?;
        let version = version.ok_or_else(|| "the version is gone".to_owned())?;
        let source = match &of.serves {
            Serves::Predictive(source) => source,
            Serves::Choice(choice, options) => return choice.learn(&version, options),
        };
        let file = file_of(tracked, &tenant, &version).await.map_err(said)?;
        let source = Source { artifact: Artifact::Content(file), ..Source::clone(source) };
        let named = number.to_string();
        let loaded = self.0.models.load(&of.name, &named, source).await.map_err(|e| e.to_string())?;
        // What requests to the champion do not hold, nobody will give it.
        let champion = served.and_then(|v| self.0.models.peek(&of.name, &v.to_string()).ok().flatten());
        if let Some(champion) = champion {
            let takes = &champion.batcher.signature().inputs;
            let own = &loaded.batcher.signature().inputs;
            if let Some(more) = own.iter().find(|f| takes.iter().all(|g| g.name != f.name)) {
                return Err(format!("it takes the input `{}`, which the champion does not", more.name));
            }
            let other =
                |f: &&predict::Field| own.iter().all(|g| g.name != f.name || g.datatype != f.datatype);
            if let Some(other) = takes.iter().find(other) {
                return Err(format!("it does not take the input `{}` as the champion does", other.name));
            }
        }
        Ok(())
    }

    /// Saves what was seen and lets time pass; at once when something failed.
    async fn tell(
        &self,
        of: &Follow,
        own: &OfModel,
        kept: Kept,
        served: Option<i64>,
    ) -> Result<Kept, String> {
        let now = self.0.clock.now();
        let astray = served.map(|v| v.to_string()).as_deref() != Some(kept.state.releases.champion());
        let gone_astray = {
            let mut last = own.looked.lock();
            last.astray = if astray { last.astray + 1 } else { 0 };
            last.astray >= ASTRAY
        };
        let due = now.since(own.looked.lock().saved) >= SAVE;
        if !due && !gone_astray && !own.collector.lock().is_urgent() {
            return Ok(kept);
        }
        let taken = own.collector.lock().take();
        let told = |state: &mut State, now| {
            let mut done: Vec<Todo> = Vec::new();
            if gone_astray {
                done.extend(match served {
                    Some(version) => {
                        let version = version.to_string();
                        let why = "it was made the champion in another way".to_owned();
                        let end = Input::RollBack { by: "forebay".to_owned(), why };
                        let mut all = state.releases.apply(&version, now, end);
                        all.extend(state.releases.champion_changed(&version, now));
                        all
                    }
                    None => {
                        let why = "nothing answers under its alias any more".to_owned();
                        let kill = Input::Kill { by: "forebay".to_owned(), why };
                        each(state, |releases, c| releases.apply(c, now, kill.clone()))
                    }
                });
            }
            for (challenger, input) in &taken {
                done.extend(state.releases.apply(challenger, now, input.clone()));
            }
            done.extend(each(state, |releases, c| releases.apply(c, now, Input::Tick)));
            done
        };
        let changed = self.change(of, told).await;
        match changed {
            Ok(kept) => {
                let mut last = own.looked.lock();
                last.saved = now;
                last.astray = 0;
                Ok(kept)
            }
            Err(why) => {
                own.collector.lock().give_back(taken);
                Err(why)
            }
        }
    }

    async fn change(
        &self,
        of: &Follow,
        mut decide: impl FnMut(&mut State, contract::UnixMillis) -> Vec<Todo>,
    ) -> Result<Kept, String> {
        let (tenant, now) = (TenantId::of_the_project(), self.0.clock.wall());
        let changed =
            rolling::change(&self.0.tracked, &tenant, &of.registered, now, |state| Ok(decide(state, now)))
                .await;
        let Changed { kept, done } = changed.map_err(|e| e.to_string())?;
        done.iter().for_each(|todo| said(of, todo));
        Ok(kept)
    }
}

fn each(
    state: &mut State,
    mut tell: impl FnMut(&mut models::rollout::Releases, &str) -> Vec<Todo>,
) -> Vec<Todo> {
    let all: Vec<String> = state.releases.rollouts().iter().map(|r| r.challenger().to_owned()).collect();
    all.iter().flat_map(|c| tell(&mut state.releases, c)).collect()
}

/// A step in the log of the server that took it.
fn said(of: &Follow, todo: &Todo) {
    let (model, version) = (&of.registered, &todo.challenger);
    match &todo.action {
        Action::Record(e) | Action::Promote(e) => {
            tracing::info!(%model, %version, what = %e.what, "{}", e.sentence);
        }
        Action::Page(e) | Action::RollBack(e) => {
            tracing::warn!(%model, %version, what = %e.what, "{}", e.sentence);
        }
        Action::Ask(point) => tracing::warn!(%model, %version, ?point, "somebody's word is waited for"),
        Action::Split(_) | Action::Shadow(_) => {}
    }
}

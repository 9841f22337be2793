//! The choices of a project: which model answers to a name, as the registry says and its rollouts divide.
//!
//! What is known of a choice is one pointer that requests read; whoever follows its alias ([`crate::following`]) stores another. It outlives
//! configurations. Before anything is known the first model answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use contract::{Code, Error, ModelName, TenantId};
use llm::{Chooser, Chosen};
use models::choice::option_of;
use models::stages::{Tracked, find};
use parking_lot::Mutex;
use predict::observe::Place;
use predict::served::Router;
use serde_json::json;
use store::tracking::ModelVersion;

use crate::config::Config;

/// What is known of a choice.
#[derive(Clone, Default)]
struct Known {
    /// The models that versions stand for.
    models: BTreeMap<i64, ModelName>,
    /// Whether its alias was looked at, and the version that it stands for.
    served: Option<Option<i64>>,
    /// Who divides requests, while a rollout is under way.
    way: Option<Arc<dyn Router>>,
}

/// A choice.
pub(crate) struct Choice {
    name: String,
    known: ArcSwap<Known>,
}

impl Choice {
    fn change(&self, change: impl Fn(&mut Known)) {
        self.known.rcu(|known| {
            let mut known = Known::clone(known);
            change(&mut known);
            known
        });
    }

    /// Takes in what a version says, when the model that it stands for is one of those that may answer.
    ///
    /// # Errors
    /// It is none of them, or the version says nothing of it.
    pub(crate) fn learn(&self, version: &ModelVersion, options: &[String]) -> Result<(), String> {
        let model = option_of(version).map_err(|e| e.to_string())?;
        if !options.iter().any(|own| own == model) {
            let all = options.join(", ");
            return Err(format!("`{model}` is none of the models that the configuration lets answer: {all}"));
        }
        self.stands_for(version.version, model);
        Ok(())
    }

    fn stands_for(&self, version: i64, model: &str) {
        self.change(|known| _ = known.models.insert(version, model.into()));
    }

    /// The alias stands for that version, or for none.
    pub(crate) fn serve(&self, version: Option<i64>) {
        self.change(|known| known.served = Some(version));
    }

    /// Whoever divides its requests.
    pub(crate) fn route_by(&self, way: Option<Arc<dyn Router>>) {
        self.change(|known| known.way.clone_from(&way));
    }
}

impl Chooser for Choice {
    fn choose(&self, who: &str) -> Result<Option<Chosen>, Error> {
        let known = self.known.load();
        if known.served == Some(None) {
            let m = format!(
                "`{}` was taken out of service: `forebay models choose {} MODEL` or `forebay models rollback {}` brings it back",
                self.name, self.name, self.name
            );
            return Err(Error::new(Code::UpstreamUnreachable, m).param("model"));
        }
        if let Some(routed) = known.way.as_ref().and_then(|way| way.route(who))
            && let Some(model) =
                routed.version.parse().ok().and_then(|version: i64| known.models.get(&version))
        {
            let (version, arm) = (&*routed.version, routed.arm.as_str());
            let note = match &routed.place {
                None => json!({"version": version, "arm": arm}),
                Some(Place { challenger, step }) => {
                    json!({"version": version, "arm": arm, "challenger": &**challenger, "step": step})
                }
            };
            return Ok(Some(Chosen { model: model.clone(), note }));
        }
        let Some(version) = known.served.flatten() else { return Ok(None) };
        let chosen = |model: &ModelName| Chosen {
            model: model.clone(),
            note: json!({"version": version.to_string()}),
        };
        Ok(known.models.get(&version).map(chosen))
    }
}

/// The choices of a project, by name. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Choices(Arc<Mutex<BTreeMap<String, Arc<Choice>>>>);

impl Choices {
    /// A choice; made when it is asked for first.
    pub(crate) fn of(&self, name: &str) -> Arc<Choice> {
        let fresh = || Arc::new(Choice { name: name.to_owned(), known: ArcSwap::default() });
        self.0.lock().entry(name.to_owned()).or_insert_with(fresh).clone()
    }

    /// Forgets those that are not kept.
    pub(crate) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| keep(name));
    }

    /// Looks once at what the registry says, for whoever does not follow it, and before anybody is answered.
    pub(crate) async fn look(&self, config: &Config, tracked: &Tracked) {
        for (name, m) in config.models.iter().filter(|(_, m)| m.is_choice()) {
            let choice = self.of(name);
            match find(tracked, &TenantId::of_the_project(), name, Ok(m.alias())).await {
                Ok(Some(version)) => match choice.learn(&version, &m.choice) {
                    Ok(()) => choice.serve(Some(version.version)),
                    Err(error) => tracing::error!(choice = %name, %error, "the first model answers"),
                },
                Ok(None) => choice.serve(None),
                // Nobody ever chose.
                Err(error) if error.is_missing() => {}
                Err(error) => tracing::error!(choice = %name, %error, "the first model answers"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use predict::observe::Arm;
    use predict::served::Routed;

    use super::*;

    /// Sends everybody to one version.
    struct To(&'static str);

    impl Router for To {
        fn route(&self, _: &str) -> Option<Routed> {
            Some(Routed { version: self.0.into(), arm: Arm::Canary, place: None })
        }
    }

    #[test]
    fn out_of_service_goes_before_any_division_and_a_choice_that_comes_back_knows_nothing() {
        let choices = Choices::default();
        let choice = choices.of("writer");
        assert_eq!(choice.choose("ann").unwrap(), None, "nobody has said anything");
        choice.stands_for(1, "small");
        choice.stands_for(2, "large");
        choice.serve(Some(1));
        let model = || choice.choose("ann").unwrap().unwrap().model;
        assert_eq!(model().as_str(), "small");
        choice.route_by(Some(Arc::new(To("2"))));
        assert_eq!(model().as_str(), "large");
        choice.route_by(Some(Arc::new(To("3"))));
        assert_eq!(model().as_str(), "small", "of a version that nobody knows nothing is said");
        choice.serve(None);
        assert_eq!(choice.choose("ann").unwrap_err().code, Code::UpstreamUnreachable);
        choice.serve(Some(1));
        assert!(Arc::ptr_eq(&choice, &choices.of("writer")));
        choices.retain(|name| name != "writer");
        assert_eq!(
            choices.of("writer").choose("ann").unwrap(),
            None,
            "one that comes back knows nothing of before"
        );
    }
}

//! `register`: a model becomes a version of a registered one, and answers under an alias when its gate lets it.
//!
//! candidate → version → (champion and challenger asked the same held-back rows) → decision, signed and kept
//! → accepted: the alias stands for it | refused: the stage fails, and the alias stays.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::lineage::{Lineage, Thing, ThingKind};
use contract::{BoxFuture, Code, Inputs, Kind, Value};
use pipeline::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use store::tracking::{ModelVersion, NewModelVersion, Refused, Search, Why};

use super::both::Both;
use super::candidate::{Candidate, parted};
use super::error::{evaluated, kept, stored, written};
use super::evaluate::Held;
use super::job::Job;
use super::kind::{ModelStage, misnamed, open, problem};
use super::released::{self, Released, keep_decision};
use super::{Means, track};
use crate::card::Record;
use crate::check;
use crate::evaluate::{EvaluateConfig, Evaluation, evaluate};
use crate::gate::{self, Check, Decision, GateConfig, Verdict, decide};

/// How often a decision is made again because the champion changed meanwhile.
const TRIES: usize = 3;

/// The registered model and its alias that a stage's gate watches, by the stage's kind and configuration; nothing of another kind,
/// without a gate, or where they are known only when it runs.
pub fn gated(kind: &str, config: &Json) -> Option<(String, String)> {
    if kind != RegisterStage::NAME {
        return None;
    }
    let config: RegisterConfig = serde_json::from_value(config.clone()).ok()?;
    config.gate.is_some().then_some((config.model, config.alias)).filter(|(model, _)| !model.contains("{{"))
}

/// Registers a model as the next version under a name. With a `gate` it is held against the champion on the rows that were held back
/// from it, and answers under the alias when every check holds. A model that is refused is a version too; the stage fails, with
/// the evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RegisterConfig {
    /// The name of the registered model, which is made when there is none.
    model: String,
    /// A gate's file, relative to the configuration. Without one no alias is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<PathBuf>,
    /// The alias that stands for whoever answers.
    #[serde(default = "champion")]
    alias: String,
    /// The alias of an accepted version while another answers, instead of `alias`: `challenger`, which a stage `rollout` behind it
    /// brings there. Where nothing answers yet the first accepted version does at once.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    instead: Option<String>,
    /// What the model is for, for its card.
    #[serde(default)]
    purpose: String,
    /// What it is not for and where it fails, for its card.
    #[serde(default)]
    limits: Vec<String>,
    /// Who answers for it.
    #[serde(default)]
    owner: String,
}

fn champion() -> String {
    "champion".to_owned()
}

/// Registers a model.
pub(super) struct RegisterStage {
    config: RegisterConfig,
    gate: Option<GateConfig>,
}

impl ModelStage for RegisterStage {
    const NAME: &'static str = "register";
    const INPUTS: &'static [(&'static str, Kind)] = &[("model", Kind::Json(None))];
    const PATHS: &'static [&'static str] = &["gate"];
    type Config = RegisterConfig;

    fn build(config: RegisterConfig, means: &dyn Means) -> Result<Self, Vec<Problem>> {
        let mut problems: Vec<Problem> = misnamed(&config.model).into_iter().collect();
        if config.alias.is_empty() || config.alias.eq_ignore_ascii_case("latest") {
            let remedy = "write `champion`, or another name but `latest`, which always is the newest version";
            problems.push(problem("/alias", "no alias can be called so", remedy));
        }
        if let Some(own) = &config.instead {
            let m = if config.gate.is_none() {
                Some("no gate says which version gets it")
            } else if own.is_empty() || own.eq_ignore_ascii_case("latest") || *own == config.alias {
                Some("no alias beside that of whoever answers")
            } else {
                None
            };
            problems.extend(m.map(|m| problem("/as", m, "write `as: challenger` beside a `gate`")));
        }
        let gate = match &config.gate {
            Some(file) if !file.to_str().is_some_and(open) => {
                gate(means.folder(), file).map_err(|wrong| problems.extend(wrong)).ok()
            }
            _ => None,
        };
        if problems.is_empty() { Ok(RegisterStage { config, gate }) } else { Err(problems) }
    }

    fn files(config: &RegisterConfig) -> Vec<PathBuf> {
        config.gate.iter().cloned().collect()
    }

    fn cached(_: &RegisterConfig) -> bool {
        // Who answers now is looked at in every run.
        false
    }

    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let candidate = Candidate::given(inputs)?;
            self.registered(job).await?;
            let version = self.version(job, &candidate).await?;
            let made = released::thing(&self.config.model, version.version);
            job.attempt.log.lineage(Lineage {
                inputs: vec![
                    Thing::new(ThingKind::Artifact, &candidate.model.name).at(&candidate.model.hash),
                ],
                outputs: vec![made.into()],
                ..Lineage::default()
            });
            let Some(gate) = &self.gate else {
                let m =
                    format!("version {} of {}; no gate, no alias is moved", version.version, version.name);
                job.say(&m);
                job.note(m);
                return Ok(self.value(&version, &candidate, None, None));
            };
            let held = Arc::new(Held::of(job, &candidate).await?);
            for _ in 0..TRIES {
                if let Some(value) = self.decide(job, &candidate, &version, (gate, &held)).await? {
                    return Ok(value);
                }
                job.say("another model came to answer meanwhile: deciding again");
            }
            let m = format!("who answers as `{}` changes again and again", self.config.model);
            Err(contract::Error::new(Code::StorageUnavailable, m))
        })
    }
}

/// A gate's file.
fn gate(folder: &Path, file: &Path) -> Result<GateConfig, Vec<Problem>> {
    let text = std::fs::read_to_string(folder.join(file)).map_err(|e| {
        let message = format!("the file `{}` cannot be read: {e}", file.display());
        let remedy = "check the path, which is relative to the configuration";
        vec![problem("/gate", &message, remedy)]
    })?;
    let wrong = |p: &yaml::problem::Problem| {
        let message = format!("{}:{}:{}: {}", file.display(), p.line, p.column, p.message);
        problem("/gate", &message, &p.remedy)
    };
    gate::parse(&text).map_err(|problems| problems.iter().map(wrong).collect())
}

impl RegisterStage {
    /// Makes the registered model when there is none.
    async fn registered(&self, job: &Job<'_>) -> Result<(), contract::Error> {
        let name = &self.config.model;
        check::model_name(name).map_err(|e| kept(e.into()))?;
        let purpose = Some(self.config.purpose.as_str()).filter(|text| !text.is_empty());
        match job.tracking().register(name, purpose, &[], job.now()).await {
            Ok(_) => Ok(()),
            Err(store::Error::Refused(Refused { why: Why::Exists, .. })) => Ok(()),
            Err(e) => Err(stored(e)),
        }
    }

    /// The version that the candidate is: one for each model that a run made, however often it is registered.
    async fn version(&self, job: &Job<'_>, candidate: &Candidate) -> Result<ModelVersion, contract::Error> {
        let name = &self.config.model;
        let search =
            Search { filter: format!("run_id = '{}'", candidate.run), most: 1_000, ..Search::default() };
        let found = job.tracking().search_versions(&search).await.map_err(stored)?;
        if let Some(known) = found.items.into_iter().find(|v| v.name == *name) {
            return Ok(known);
        }
        let run = job.tracking().run(&candidate.run).await.map_err(stored)?;
        let location = format!("{}/model", run.info.location.trim_end_matches('/'));
        let tag = |key: &str, value: &str| (format!("forebay.{key}"), value.to_owned());
        let (dataset, content) = parted(&candidate.table);
        let new = NewModelVersion {
            name: name.clone(),
            description: None,
            source: format!("runs:/{}/model", candidate.run),
            location,
            run: Some(candidate.run.clone()),
            run_link: Some(String::new()),
            model: None,
            tags: vec![
                tag("model_id", &candidate.id),
                tag("data", &format!("{dataset}@{content}")),
                tag("pipeline", job.attempt.pipeline.as_str()),
                tag("run", &job.attempt.run.to_string()),
            ],
        };
        job.tracking().create_version(&new, job.now()).await.map_err(stored)
    }

    /// Decides against whoever answers now; nothing when that changed meanwhile.
    async fn decide(
        &self,
        job: &Job<'_>,
        candidate: &Candidate,
        version: &ModelVersion,
        (gate, held): (&GateConfig, &Arc<Held>),
    ) -> Result<Option<Value>, contract::Error> {
        let (name, alias) = (&self.config.model, &self.config.alias);
        let now_answers = released::find(job.tracked(), job.tenant(), name, Ok(alias.as_str())).await;
        let now_answers = now_answers.map_err(kept)?;
        let from = now_answers.as_ref().map(|v| v.version);
        let id =
            |v: &ModelVersion| v.tags.iter().find(|(k, _)| k == "forebay.model_id").map(|(_, v)| v.clone());
        if now_answers
            .as_ref()
            .is_some_and(|v| v.version == version.version || id(v) == Some(candidate.id.clone()))
        {
            let m = format!("this model is the {alias} already, as version {}", from.unwrap_or_default());
            job.say(&m);
            job.note(m);
            return Ok(Some(self.value(now_answers.as_ref().unwrap_or(version), candidate, None, None)));
        }
        let champion = match now_answers {
            Some(v) => Some(Released::of(job.tracked(), job.tenant(), v).await.map_err(kept)?),
            None => None,
        };
        let asked = Both::of(job, candidate, (champion.as_ref(), gate, held)).await?;
        let case = asked.case((name, version), held);
        let decision = decide(gate, &case, job.clock().wall()).map_err(|e| evaluated(&e))?;
        let signer = job.means.signer()?;
        let (tracked, tenant) = (job.tracked(), job.tenant());
        let sealed_as = keep_decision(tracked, tenant, version, &decision, &*signer, job.now()).await;
        let sealed_as = sealed_as.map_err(kept)?;
        self.card(job, candidate, version, (&decision, &asked, held)).await?;
        tell(job, &decision);
        match decision.verdict {
            Verdict::Refused => Err(refused(version, &decision)),
            Verdict::WaitsForApproval => {
                let (n, v) = (&version.name, version.version);
                let m = format!("{}; `forebay models promote {n} {v}` gives it", decision.sentence());
                Err(contract::Error::new(Code::NotApproved, m))
            }
            Verdict::Accepted if from.is_some() && self.config.instead.is_some() => {
                let own = self.config.instead.as_deref().unwrap_or_default();
                let at = (job.now(), job.now());
                job.tracking().set_alias(name, own, version.version, at).await.map_err(stored)?;
                let m = format!("{own} of {name} is version {} now", version.version);
                job.say(&m);
                job.note(m);
                Ok(Some(self.value(version, candidate, Some(&decision), Some(&sealed_as))))
            }
            Verdict::Accepted => {
                let to = (from, version.version);
                let moved = job.tracking().move_alias(name, alias, to, job.now()).await.map_err(stored)?;
                if !moved {
                    return Ok(None);
                }
                let m = format!("{alias} of {name} is version {} now", version.version);
                job.say(&m);
                job.note(m);
                Ok(Some(self.value(version, candidate, Some(&decision), Some(&sealed_as))))
            }
        }
    }

    /// Writes the card and the report of the version.
    async fn card(
        &self,
        job: &Job<'_>,
        candidate: &Candidate,
        version: &ModelVersion,
        (decision, asked, held): (&Decision, &Both, &Held),
    ) -> Result<(), contract::Error> {
        let evaluation: Option<Evaluation> = match &candidate.evaluation {
            Some(file) => Some(serde_json::from_slice(&job.read(file).await?).map_err(|e| written(&e))?),
            None => evaluate(&asked.challenger.rows, &EvaluateConfig::default()).ok(),
        };
        let plain = EvaluateConfig::default();
        let champion = asked.champion.as_ref().and_then(|(_, c)| evaluate(&c.rows, &plain).ok());
        let of = &held.record;
        let record = Record {
            model: version.name.clone(),
            version: version.version.to_string(),
            id: candidate.id.clone(),
            purpose: self.config.purpose.clone(),
            limits: self.config.limits.clone(),
            owner: self.config.owner.clone(),
            kind: of.kind(),
            trained_at: Some(of.trained_at),
            training_seconds: of.config.adopted.is_none().then_some(of.training_seconds),
            measured: asked.challenger.measured,
            signature: Some(asked.challenger.signature.clone()),
            made_of: of.made_of.clone(),
            holdout: Some(decision.holdout.clone()),
            evaluation,
            champion,
            importance: of.importance(),
            decision: Some(decision.clone()),
        };
        let at = &version.location;
        for (name, text) in [("card.md", record.card()), ("report.html", record.page())] {
            track::put(job.tracked(), job.tenant(), at, name, text.into()).await.map_err(kept)?;
        }
        Ok(())
    }

    fn value(
        &self,
        version: &ModelVersion,
        candidate: &Candidate,
        decision: Option<&Decision>,
        sealed_as: Option<&str>,
    ) -> Value {
        let value = json!({
            "model": version.name,
            "version": version.version,
            "alias": self.gate.is_some().then_some(&self.config.alias),
            "id": candidate.id,
            "run": candidate.run,
            "uri": format!("models:/{}/{}", version.name, version.version),
            "verdict": decision.map(|d| d.verdict),
            "sentence": decision.map(Decision::sentence),
            "decision": sealed_as,
            "metrics": candidate.metrics,
        });
        Value::Json(Arc::new(value))
    }
}

fn tell(job: &Job<'_>, decision: &Decision) {
    let mark = |check: &Check| if check.passed { "holds" } else { "DOES NOT HOLD" };
    for check in &decision.checks {
        job.say(format!("{} {}: {}", check.name, mark(check), check.sentence));
    }
    job.say(decision.sentence());
}

/// What a run is told of a model that may not answer.
fn refused(version: &ModelVersion, decision: &Decision) -> contract::Error {
    let failed: Vec<&str> = decision.failed().map(|check| check.name.as_str()).collect();
    let (n, all) = (failed.len(), decision.checks.len());
    let (name, number) = (&version.name, version.version);
    let message = format!(
        "{n} of {all} checks do not hold ({}): {}; `forebay models show {name} {number}` shows the decision",
        failed.join(", "),
        decision.sentence()
    );
    contract::Error::new(Code::GateRefused, message)
}

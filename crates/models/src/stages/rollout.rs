//! `rollout`: an accepted version comes to answer step by step, beside whoever answers now.
//!
//! version → shadow → canary → promoted: the alias stands for it | anything else: the stage fails, and the alias stays.
//!
//! The stage begins the rollout and waits for its end; servers that answer drive it ([`crate::rolling`]). It holds no core meanwhile. An
//! attempt that dies leaves the rollout as it is, and the next one finds it by the run's key.

use contract::{BoxFuture, Code, Effort, Inputs, Kind, Value};
use pipeline::{Problem, task};
use serde::Deserialize;
use serde_json::json;

use super::Means;
use super::error::{kept, written};
use super::job::Job;
use super::kind::{ModelStage, problem};
use crate::rolling::{Begin, Begun, ENDS, begin, happened};
use crate::rollout::{Event, RolloutConfig, Settings};

/// How often it is looked whether the rollout has ended.
const LOOK: std::time::Duration = std::time::Duration::from_millis(500);

/// Rolls a version out.
pub(super) struct RolloutStage {
    settings: Settings,
}

/// What `register` gives, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Registered {
    model: String,
    version: i64,
    alias: Option<String>,
}

impl ModelStage for RolloutStage {
    const NAME: &'static str = "rollout";
    const INPUTS: &'static [(&'static str, Kind)] = &[("version", Kind::Json(None))];
    const EFFORT: Effort = Effort::Waits;
    type Config = RolloutConfig;

    fn build(config: RolloutConfig, _means: &dyn Means) -> Result<Self, Vec<Problem>> {
        let wrong = |p: crate::rollout::Problem| problem(&p.pointer, &p.message, &p.remedy);
        let settings =
            Settings::new(&config).map_err(|all| all.into_iter().map(wrong).collect::<Vec<_>>())?;
        Ok(RolloutStage { settings })
    }

    fn cached(_: &RolloutConfig) -> bool {
        // Who answers now is looked at in every run.
        false
    }

    fn run<'a>(
        &'a self,
        job: &'a Job<'a>,
        inputs: &'a Inputs,
    ) -> BoxFuture<'a, Result<Value, contract::Error>> {
        Box::pin(async move {
            let given = registered(inputs)?;
            let Some(alias) = given.alias.as_deref() else {
                let m = "no gate has let this version answer: give `register` a `gate`";
                return Err(contract::Error::new(Code::InvalidRequest, m));
            };
            let key = format!("{}/{}", job.attempt.run, job.stage);
            let wanted = || Begin {
                name: &given.model,
                alias,
                version: given.version,
                settings: self.settings.clone(),
                key: &key,
            };
            let mut told = 0;
            loop {
                let now = job.clock().wall();
                let (what, event) =
                    match begin(job.tracked(), job.tenant(), wanted(), now).await.map_err(kept)? {
                        Begun::UnderWay => {
                            tell(job, &given, &mut told).await?;
                            task::sleep(LOOK).await;
                            continue;
                        }
                        Begun::First => ("there was no champion, so it is the champion", None),
                        Begun::Champion => ("it is the champion already", None),
                        Begun::Ended(event) => ("", Some(event)),
                    };
                tell(job, &given, &mut told).await?;
                if event.is_none() {
                    job.say(what);
                    job.note(what);
                }
                return ended(&given, alias, what, event.map(|e| *e));
            }
        })
    }
}

fn registered(inputs: &Inputs) -> Result<Registered, contract::Error> {
    let wrong = |why: String| {
        contract::Error::new(Code::InvalidRequest, format!("the input `version` is no version: {why}"))
    };
    match inputs.get("version") {
        Some(Value::Json(json)) => serde_json::from_value((**json).clone())
            .map_err(|e| wrong(format!("{e}; give it what `register` gives"))),
        Some(other) => Err(wrong(format!("it is {}", other.kind()))),
        None => Err(wrong("it was left out".to_owned())),
    }
}

/// Says what happened since it was last said.
async fn tell(job: &Job<'_>, of: &Registered, told: &mut usize) -> Result<(), contract::Error> {
    let all = happened(job.tracked(), job.tenant(), &of.model, Some(of.version)).await.map_err(kept)?;
    for one in all.iter().skip(*told) {
        let sentence = one.event.as_ref().map_or("the rollout begins", |e| &e.sentence);
        job.say(format!("{}: {sentence}", one.what));
        job.note(format!("{}: {sentence}", one.what));
    }
    *told = all.len();
    Ok(())
}

fn ended(of: &Registered, alias: &str, what: &str, event: Option<Event>) -> Result<Value, contract::Error> {
    let (word, sentence, report) = match &event {
        None => ("promoted", what, None),
        Some(event) => (event.what.as_str(), event.sentence.as_str(), Some(&event.report)),
    };
    debug_assert!(ENDS.contains(&word), "{word} is an end");
    if word != "promoted" {
        let (name, number) = (&of.model, of.version);
        let code = if word == "rejected" { Code::NotApproved } else { Code::GateRefused };
        let message = format!(
            "version {number} of {name} does not answer ({}): {sentence}; `forebay models rollout show {name}` shows the evidence",
            word.replace('_', " ")
        );
        return Err(contract::Error::new(code, message));
    }
    let report = report.map(serde_json::to_value).transpose().map_err(|e| written(&e))?;
    let value = json!({
        "model": of.model,
        "version": of.version,
        "alias": alias,
        "verdict": word,
        "sentence": sentence,
        "report": report,
    });
    Ok(Value::Json(std::sync::Arc::new(value)))
}

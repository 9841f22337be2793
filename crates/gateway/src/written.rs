//! Answers that are written, as those who look at answers see them, made of the request's record: one for each choice of a request
//! ([`llm::choice`]), and one of the model or pipeline that was asked, where its answers are kept.
//!
//! A request counts with all it took and cost, also when it is a pipeline whose stages asked other models besides. One whose caller left
//! counts for nothing: it says nothing about the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{Code, Ending, RequestRecord, UnixMillis};
use llm::CHOICES;
use predict::observe::{Answered, Arm, Place, Word};
use serde_json::Value as Json;

use crate::heard::{Heard, Signals};

/// What is to be told of a request that ended: nothing when nobody was chosen for it, and no answer of its name is `kept`.
pub(crate) fn answered(
    record: &RequestRecord,
    heard: Option<&Heard>,
    kept: &BTreeMap<String, bool>,
) -> Vec<Answered> {
    let none = serde_json::Map::new();
    let choices = record.facts.get(CHOICES).and_then(Json::as_object).unwrap_or(&none);
    let asked = record.pipeline.as_ref().map(|name| name.as_str());
    let asked = asked.or(record.model.as_ref().map(|name| name.as_str()));
    let asked = asked.filter(|name| kept.contains_key(*name) && !choices.contains_key(*name));
    if choices.is_empty() && asked.is_none() {
        return Vec::new();
    }
    let error = match (record.ending, &record.error) {
        (Ending::Complete, _) => None,
        (Ending::Partial | Ending::Failed, error) => Some(error.as_ref().map_or(Code::Internal, |e| e.code)),
        (Ending::Cancelled | Ending::Lost, _) => return Vec::new(),
    };
    let took = Duration::from_micros(record.total_us);
    let signals = heard.map(Heard::signals);
    // What a stage asked of a choice is a part of its pipeline's answer, and no answer of its own.
    let own = |name: &str| signals.as_ref().filter(|_| heard.is_some_and(|heard| heard.is_of(name)));
    let of = |name: &str| Answered {
        id: record.id.to_string().into(),
        at: UnixMillis(record.at.0.saturating_add(i64::try_from(took.as_millis()).unwrap_or(i64::MAX))),
        took,
        tenant: record.tenant.clone(),
        model: name.into(),
        registered: None,
        version: version(record).into(),
        arm: Arm::Champion,
        place: None,
        entity: record.user.as_ref().map(|user| user.as_str().into()),
        inputs: Arc::default(),
        outputs: Arc::default(),
        figures: figures(record, own(name)),
        words: words(record, own(name).filter(|_| kept.contains_key(name)), kept.get(name)),
        error,
    };
    let chosen = |(name, chosen): (&String, &Json)| {
        let arm = match chosen.get("arm").and_then(Json::as_str) {
            Some("canary") => Arm::Canary,
            Some("control") => Arm::Control,
            _ => Arm::Champion,
        };
        let step = chosen.get("step").and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        let place = chosen.get("challenger").and_then(Json::as_str);
        // Before anybody chose there is no version: such an answer is kept, and counts for no rollout.
        let version = chosen.get("version").and_then(Json::as_str).map(Arc::from);
        let written = of(name);
        if version.is_none() && written.words.is_empty() {
            return None;
        }
        Some(Answered {
            registered: Some(name.as_str().into()),
            version: version.unwrap_or_else(|| written.version.clone()),
            arm,
            place: place.map(|challenger| Place { challenger: challenger.into(), step }),
            ..written
        })
    };
    choices.iter().filter_map(chosen).chain(asked.map(of)).collect()
}

/// What answered: the version of the pipeline, or of the model as its provider named it.
fn version(record: &RequestRecord) -> String {
    let last = record.attempts.last();
    let model = || last.map(|a| a.model_version.clone().unwrap_or_else(|| a.model.as_str().to_owned()));
    record.pipeline_version.clone().or_else(model).unwrap_or_else(|| "kept".to_owned())
}

/// What a request itself says, by the names that metrics of a rollout and columns of what is kept have.
fn figures(record: &RequestRecord, signals: Option<&Signals>) -> Arc<[(Arc<str>, f64)]> {
    #[expect(clippy::cast_precision_loss, reason = "microseconds and tokens of a request are small")]
    let number = |n: u64| n as f64;
    let length = |n: usize| number(u64::try_from(n).unwrap_or(u64::MAX));
    let flag = |is: bool| f64::from(u8::from(is));
    let mut all = vec![
        ("cost_usd", record.cost.as_usd()),
        ("input_tokens", number(record.usage.input_tokens)),
        ("output_tokens", number(record.usage.output_tokens)),
        ("attempts", length(record.attempts.len())),
    ];
    all.extend(record.first_output_us.map(|us| ("first_output_ms", number(us) / 1e3)));
    all.extend(record.facts.get("coverage").and_then(Json::as_f64).map(|share| ("coverage", share)));
    all.extend(grounded(record).map(|share| ("grounded", share)));
    if let Some(told) = signals {
        let filtered = finish(record) == Some("content_filter");
        all.extend([
            ("input_chars", length(told.input_chars)),
            ("output_chars", length(told.output_chars)),
            ("refused", flag(told.refused || filtered)),
            ("cut", flag(finish(record) == Some("length"))),
        ]);
    }
    all.into_iter().map(|(name, value)| (Arc::from(name), value)).collect()
}

/// The share of an answer's sentences that its source supports, where a stage checked them.
fn grounded(record: &RequestRecord) -> Option<f64> {
    let counts = record.facts.get("grounding")?;
    let (supported, all) = (counts.get("supported")?.as_f64()?, counts.get("sentences")?.as_f64()?);
    (all > 0.0).then(|| supported / all)
}

/// Why the last model that answered stopped.
fn finish(record: &RequestRecord) -> Option<&str> {
    record.attempts.iter().rev().find_map(|a| a.finish_reason.as_deref())
}

/// What is kept of an answer in words.
fn words(record: &RequestRecord, signals: Option<&Signals>, texts: Option<&bool>) -> Arc<[Word]> {
    let Some(told) = signals else { return Arc::default() };
    let last = record.attempts.last();
    let word = |name, text: Option<&str>| Word { name, text: text.map(Arc::from) };
    let mut all = vec![
        word("model", last.map(|a| a.model.as_str())),
        word("prompt", last.and_then(|a| a.prompt_version.as_deref())),
        word("finish", finish(record)),
        word("language", told.language),
    ];
    if let (Some(true), Some((input, output))) = (texts, &told.texts) {
        let text = |name, text: &Arc<str>| Word { name, text: Some(text.clone()) };
        all.extend([text("input", input), text("output", output)]);
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::record;
    use serde_json::json;

    #[test]
    fn a_request_counts_for_the_side_it_was_answered_on_unless_its_caller_left() {
        let mut of = record("gold", Vec::new(), 1_500);
        let of_choices = |of: &RequestRecord| answered(of, None, &BTreeMap::new());
        assert!(of_choices(&of).is_empty());
        let canary = json!({"model": "large", "version": "2", "arm": "canary", "challenger": "2", "step": 1});
        let choices =
            json!({"writer": canary, "judge": {"model": "small", "version": "1"}, "new": {"model": "small"}});
        of.facts.insert(CHOICES.to_owned(), choices);
        let mut all = of_choices(&of);
        all.sort_by_key(|one| one.version.clone());
        assert_eq!(all.len(), 2, "what no version stands behind is no one's");
        assert_eq!((&*all[0].model, all[0].arm, &all[0].place), ("judge", Arm::Champion, &None));
        assert_eq!((&*all[1].model, &*all[1].version, all[1].arm), ("writer", "2", Arm::Canary));
        assert_eq!(all[1].place, Some(Place { challenger: "2".into(), step: Some(1) }));
        assert!(all[1].figures.iter().any(|(name, _)| &**name == "cost_usd"));
        assert_eq!(all[1].error, None);
        of.ending = Ending::Cancelled;
        assert!(of_choices(&of).is_empty());
        of.ending = Ending::Failed;
        assert_eq!(of_choices(&of)[0].error, Some(Code::Internal));
    }
}

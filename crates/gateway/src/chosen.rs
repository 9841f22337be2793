//! Answers of chat models that were chosen among several ([`llm::choice`]), as rollouts see them: one for each choice of a request, made
//! of its record.
//!
//! A request counts with all it took and cost, also when it is a pipeline whose stages asked other models besides. One whose caller left
//! counts for nothing: it says nothing about the answer.

use std::sync::Arc;
use std::time::Duration;

use contract::{Code, Ending, RequestRecord, UnixMillis};
use llm::CHOICES;
use predict::observe::{Answered, Arm, Place};
use serde_json::Value as Json;

/// What is to be told of a request that ended: nothing when nobody was chosen for it.
pub(crate) fn answered(record: &RequestRecord) -> Vec<Answered> {
    let Some(Json::Object(choices)) = record.facts.get(CHOICES) else { return Vec::new() };
    let error = match (record.ending, &record.error) {
        (Ending::Complete, _) => None,
        (Ending::Partial | Ending::Failed, error) => Some(error.as_ref().map_or(Code::Internal, |e| e.code)),
        (Ending::Cancelled | Ending::Lost, _) => return Vec::new(),
    };
    let id: Arc<str> = record.id.to_string().into();
    let entity: Option<Arc<str>> = record.user.as_ref().map(|user| user.as_str().into());
    let took = Duration::from_micros(record.total_us);
    let at = UnixMillis(record.at.0.saturating_add(i64::try_from(took.as_millis()).unwrap_or(i64::MAX)));
    let figures = figures(record);
    let one = |(name, chosen): (&String, &Json)| {
        let arm = match chosen.get("arm").and_then(Json::as_str) {
            Some("canary") => Arm::Canary,
            Some("control") => Arm::Control,
            _ => Arm::Champion,
        };
        let step = chosen.get("step").and_then(Json::as_u64).and_then(|n| usize::try_from(n).ok());
        let place = chosen.get("challenger").and_then(Json::as_str);
        Some(Answered {
            id: id.clone(),
            at,
            took,
            tenant: record.tenant.clone(),
            model: name.as_str().into(),
            registered: Some(name.as_str().into()),
            version: chosen.get("version")?.as_str()?.into(),
            arm,
            place: place.map(|challenger| Place { challenger: challenger.into(), step }),
            entity: entity.clone(),
            inputs: Arc::default(),
            outputs: Arc::default(),
            figures: figures.clone(),
            error,
        })
    };
    choices.iter().filter_map(one).collect()
}

/// What a request itself says, by the names that metrics of a rollout have.
fn figures(record: &RequestRecord) -> Arc<[(Arc<str>, f64)]> {
    #[expect(clippy::cast_precision_loss, reason = "microseconds and tokens of a request are small")]
    let number = |n: u64| n as f64;
    let first = record.first_output_us.map(|us| ("first_output_ms", number(us) / 1e3));
    let always = [("cost_usd", record.cost.as_usd()), ("output_tokens", number(record.usage.output_tokens))];
    always.into_iter().chain(first).map(|(name, value)| (Arc::from(name), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::record;
    use serde_json::json;

    #[test]
    fn a_request_counts_for_the_side_it_was_answered_on_unless_its_caller_left() {
        let mut of = record("gold", Vec::new(), 1_500);
        assert!(answered(&of).is_empty());
        let canary = json!({"model": "large", "version": "2", "arm": "canary", "challenger": "2", "step": 1});
        let choices =
            json!({"writer": canary, "judge": {"model": "small", "version": "1"}, "new": {"model": "small"}});
        of.facts.insert(CHOICES.to_owned(), choices);
        let mut all = answered(&of);
        all.sort_by_key(|one| one.version.clone());
        assert_eq!(all.len(), 2, "what no version stands behind is no one's");
        assert_eq!((&*all[0].model, all[0].arm, &all[0].place), ("judge", Arm::Champion, &None));
        assert_eq!((&*all[1].model, &*all[1].version, all[1].arm), ("writer", "2", Arm::Canary));
        assert_eq!(all[1].place, Some(Place { challenger: "2".into(), step: Some(1) }));
        assert!(all[1].figures.iter().any(|(name, _)| &**name == "cost_usd"));
        assert_eq!(all[1].error, None);
        of.ending = Ending::Cancelled;
        assert!(answered(&of).is_empty());
        of.ending = Ending::Failed;
        assert_eq!(answered(&of)[0].error, Some(Code::Internal));
    }
}

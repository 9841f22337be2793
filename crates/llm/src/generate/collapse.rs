//! Merges a list in groups until the prompt over it fits: the "collapse" between map and reduce.
//!
//! Each round cuts the longest list among the inputs into groups of neighbours that fit, asks the model for one text
//! for each group, and goes on with these texts. Every round has fewer elements than the one before, or it is an error:
//! the loop ends. Elements stay in their order; an element that fills a group alone is passed on as it is.

use contract::{Code, Context, Error, Inputs, Value};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

use super::Generate;
use super::shown::shown;
use crate::TokenCounter;

/// Room for an answer whose limit nobody named.
const ANSWER: u64 = 512;

/// The inputs, with the longest list merged until the stage's prompt fits; unchanged without `collapse`.
pub(super) async fn until_it_fits(
    stage: &Generate,
    cx: &Context,
    mut inputs: Inputs,
) -> Result<Inputs, Error> {
    let Some(config) = &stage.config.collapse else { return Ok(inputs) };
    let Some(settings) = stage.models.get(&stage.model) else { return Ok(inputs) };
    let counter = &*settings.counter;
    // An estimate may be off by a fifth.
    let window = settings.context_window.map(|w| if counter.estimated() { w - w / 5 } else { w });
    let answer = stage.config.max_output_tokens.or(settings.max_output_tokens).unwrap_or(ANSWER);
    let over = stage.prompt.of(cx)?;
    let prompt = match &stage.collapsing {
        Some(own) => &own.of(cx)?,
        None => &over,
    };
    let (mut rounds, mut calls) = (0_u64, 0_u64);
    loop {
        let Some((name, sizes)) = longest_list(&inputs, counter) else { return Ok(inputs) };
        let list: u64 = sizes.iter().sum();
        let whole = counter.request(&stage.request(&over, &inputs)?);
        let fits = window.is_none_or(|w| whole.saturating_add(answer) <= w);
        if fits && config.tokens.is_none_or(|t| list <= t) {
            if rounds > 0 {
                cx.meter.fact("collapse", json!({"rounds": rounds, "calls": calls}));
            }
            return Ok(inputs);
        }
        let mut empty = inputs.clone();
        empty.insert(name.clone(), Value::List([].into()));
        let frame = counter.request(&stage.request(prompt, &empty)?).saturating_add(answer);
        let room =
            window.map_or(u64::MAX, |w| w.saturating_sub(frame)).min(config.tokens.unwrap_or(u64::MAX));
        let groups = groups(&sizes, room);
        if groups.len() >= sizes.len() {
            let m = "two neighbours of the list do not fit the model's window together: give shorter parts";
            return Err(Error::new(Code::ContextLengthExceeded, m));
        }
        let Some(Value::List(items)) = inputs.get(&name).cloned() else { return Ok(inputs) };
        calls += groups.iter().filter(|g| g.len() > 1).count() as u64;
        rounds += 1;
        let merged: Vec<Option<Value>> = stream::iter(groups)
            .map(|group| {
                let part = items.get(group).unwrap_or_default().to_vec();
                let mut inputs = inputs.clone();
                let name = name.clone();
                async move {
                    if let [alone] = part.as_slice() {
                        return Ok(alone.clone());
                    }
                    inputs.insert(name, Value::List(part.into()));
                    match stage.ask(cx, prompt, &inputs, None).await? {
                        (answer, None) => Ok(Some(Value::text(answer.text))),
                        (_, Some(e)) => Err(e),
                    }
                }
            })
            .buffered(config.parallel.max(1))
            .try_collect()
            .await?;
        inputs.insert(name, Value::List(merged.into()));
    }
}

/// The name and the sizes of the list with most tokens, if a list of two or more is there.
fn longest_list(inputs: &Inputs, counter: &dyn TokenCounter) -> Option<(String, Vec<u64>)> {
    // Five for the number and the blank line of each.
    let size = |v: &Option<Value>| v.as_ref().map_or(2, |v| counter.count(&shown(v).to_string())) + 5;
    inputs
        .iter()
        .filter_map(|(name, v)| match v {
            Value::List(items) if items.len() > 1 => Some((name.clone(), items.iter().map(size).collect())),
            _ => None,
        })
        .max_by_key(|(_, sizes): &(String, Vec<u64>)| sizes.iter().sum::<u64>())
}

/// Neighbours whose sizes add up to at most `room`, greedily; one that is larger stands alone.
fn groups(sizes: &[u64], room: u64) -> Vec<std::ops::Range<usize>> {
    let (mut all, mut from, mut sum) = (Vec::new(), 0, 0_u64);
    for (at, size) in sizes.iter().enumerate() {
        if at > from && sum.saturating_add(*size) > room {
            all.push(from..at);
            (from, sum) = (at, 0);
        }
        sum = sum.saturating_add(*size);
    }
    if from < sizes.len() {
        all.push(from..sizes.len());
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_are_the_list_in_order_and_none_is_too_large_but_alone(
            sizes in prop::collection::vec(0u64..200, 0..40), room in 0u64..500,
        ) {
            let groups = groups(&sizes, room);
            let joined: Vec<usize> = groups.iter().cloned().flatten().collect();
            prop_assert_eq!(joined, (0..sizes.len()).collect::<Vec<_>>());
            for g in groups {
                prop_assert!(g.len() == 1 || sizes[g].iter().sum::<u64>() <= room);
            }
        }
    }
}

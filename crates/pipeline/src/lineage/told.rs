//! What a fact says, as it is kept.

use contract::lineage::{Lineage, Output, Thing};
use contract::{RunId, TenantId, UnixMillis};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use store::{LineageEnd, LineageFact, LineageRole, NewLineage};

use crate::code::Git;

/// Things of one fact at most, on each side. What is more is left out, and counted.
const THINGS: usize = 1_000;
/// Columns of one fact at most; the columns of what is more are left out.
const COLUMNS: usize = 20_000;

/// All that a fact says beside its ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// What was made of what.
    pub lineage: Lineage,
    /// The kind of the stage; else what did it: `data add`, `openlineage`.
    pub kind: String,
    /// The pipeline.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pipeline: String,
    /// The stage.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// Which attempt it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// What the run was given.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Json>,
    /// The part of the data that it was about.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub partition: Json,
    /// The state of the project's code when it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// The hash of the pipeline as it was written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub definition: String,
    /// The hash of the stage's configuration and files.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content: String,
    /// The version of the program.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub forebay: String,
    /// When it began, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<i64>,
    /// The run that had made the same, when nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reused: Option<RunId>,
    /// Who did it, when that was a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// Who told of it, when that was another program: an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// What became of it, when another program told of it: `complete`, `fail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The run that it is part of, when another program told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Things that were left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What tells the states of a thing apart; empty when nothing does.
pub fn state_of(thing: &Thing) -> &str {
    thing.version.as_deref().unwrap_or_default()
}

/// A text of at most so many bytes, another for another.
fn bounded(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let digest = blake3::hash(text.as_bytes()).to_hex();
    let digest = digest.get(..16).unwrap_or_default();
    let mut end = most.saturating_sub(digest.len() + 1);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}.{digest}", text.get(..end).unwrap_or_default())
}

fn bounded_thing(thing: &mut Thing) {
    thing.name = bounded(&thing.name, LineageEnd::NAME);
    if let Some(version) = &mut thing.version {
        *version = bounded(version, LineageEnd::VERSION);
    }
}

fn end(role: LineageRole, thing: &Thing) -> LineageEnd {
    let (kind, version) = (thing.kind.as_str().to_owned(), state_of(thing).to_owned());
    LineageEnd { role, kind, name: thing.name.clone(), version, number: thing.number }
}

/// A fact of what is told: bounded, and with its ends. `key`: what makes a second one the same.
pub fn fact(
    key: [u8; 32],
    tenant: &TenantId,
    (run, job): (&str, &str),
    at: UnixMillis,
    mut told: Told,
) -> NewLineage {
    let lineage = &mut told.lineage;
    let more = lineage.inputs.len().saturating_sub(THINGS) + lineage.outputs.len().saturating_sub(THINGS);
    told.left_out += more;
    lineage.inputs.truncate(THINGS);
    lineage.outputs.truncate(THINGS);
    let inputs = lineage.inputs.len();
    lineage.checks.retain(|c| c.input < inputs);
    told.left_out += lineage.checks.len().saturating_sub(THINGS);
    lineage.checks.truncate(THINGS);
    lineage.inputs.iter_mut().for_each(bounded_thing);
    let mut columns = 0;
    for Output { thing, columns: own, rows, .. } in &mut lineage.outputs {
        bounded_thing(thing);
        rows.retain(|f| f.input < inputs);
        own.iter_mut().for_each(|c| c.from.retain(|f| f.input < inputs));
        columns += own.iter().map(|c| 1 + c.from.len()).sum::<usize>() + rows.len();
        if columns > COLUMNS {
            own.clear();
            rows.clear();
        }
    }
    let ends = lineage.inputs.iter().map(|t| end(LineageRole::Input, t));
    let mut ends: Vec<LineageEnd> =
        ends.chain(lineage.outputs.iter().map(|o| end(LineageRole::Output, &o.thing))).collect();
    ends.sort();
    ends.dedup();
    let body = serde_json::to_string(&told).unwrap_or_default();
    let (run, job) = (bounded(run, LineageEnd::NAME), bounded(job, LineageEnd::NAME));
    NewLineage { fact: LineageFact { key, tenant: tenant.clone(), run, job, at, body }, ends }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::lineage::{ColumnMade, FromColumn, ThingKind, Via};
    use proptest::prelude::*;

    fn of(inputs: Vec<Thing>, outputs: Vec<Thing>, columns: usize) -> NewLineage {
        let from = |n: usize| vec![FromColumn { input: n, column: "c".into(), via: Via::Identity }];
        let made = |n: usize| ColumnMade { name: format!("c{n}"), ty: String::new(), from: from(n % 3) };
        let output =
            |thing: Thing| Output { columns: (0..columns).map(made).collect(), ..Output::from(thing) };
        let lineage = Lineage { outputs: outputs.into_iter().map(output).collect(), ..Lineage::of(inputs) };
        let told = Told { lineage, ..Told::default() };
        fact([1; 32], &"t".into(), ("run", "job"), UnixMillis(1), told)
    }

    proptest! {
        #[test]
        fn whatever_is_told_a_fact_is_bounded_and_names_that_differ_stay_different(
            a in "(.|ab){0,1200}", b in ".{0,1200}", version in proptest::option::of(".{0,600}"),
        ) {
            let thing = |name: &str| Thing { version: version.clone(), ..Thing::new(ThingKind::Foreign, name) };
            let made = of(vec![thing(&a), thing(&b)], vec![thing(&a)], 2);
            prop_assert_eq!(made.ends.len(), if a == b { 2 } else { 3 });
            for end in &made.ends {
                prop_assert!(end.name.len() <= LineageEnd::NAME && end.version.len() <= LineageEnd::VERSION);
            }
            let told: Told = serde_json::from_str(&made.fact.body).unwrap();
            let inputs = told.lineage.inputs.len();
            prop_assert!(told.lineage.outputs.iter().flat_map(|o| &o.columns).flat_map(|c| &c.from).all(|f| f.input < inputs));
        }
    }

    #[test]
    fn a_fact_of_too_many_things_says_how_many_are_left_out() {
        let thing = |n: usize| Thing::new(ThingKind::File, n.to_string());
        let made = of((0..1_500).map(thing).collect(), vec![thing(9)], 15_000);
        let told: Told = serde_json::from_str(&made.fact.body).unwrap();
        assert_eq!((told.left_out, told.lineage.inputs.len(), made.ends.len()), (500, 1_000, 1_001));
        assert!(told.lineage.outputs[0].columns.is_empty());
    }

    #[test]
    fn what_a_later_version_says_beside_is_read_over() {
        let told: Told = serde_json::from_str(r#"{"kind": "sql", "of_tomorrow": 1, "lineage": {}}"#).unwrap();
        assert_eq!(told.kind, "sql");
    }
}

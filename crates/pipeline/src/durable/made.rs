//! What an attempt made of what, as a fact of lineage: what it was given and gave, and what it said itself.

use std::collections::BTreeSet;

use contract::lineage::{Lineage, Output, Thing, ThingKind};
use contract::{RunId, StageName, UnixMillis};
use serde_json::Value as Json;
use store::NewLineage;

use super::content::GivenInputs;
use super::definition::About;
use super::kept::Kept;
use super::stage::StageWork;
use crate::code::Git;
use crate::lineage::{Told, fact};
use crate::runs::Task;

/// Values inside of a value that are looked at.
const LOOKS: usize = 100_000;

/// What is known of an attempt when it ends well.
pub(super) struct Ended<'a> {
    pub(super) task: &'a Task,
    pub(super) about: &'a About,
    pub(super) work: &'a StageWork,
    pub(super) git: Option<&'a Git>,
    pub(super) began: UnixMillis,
    pub(super) reused: Option<RunId>,
}

/// The output of a stage as a thing.
fn value_of(run: RunId, stage: &StageName) -> Thing {
    Thing::new(ThingKind::Value, format!("{run}/{stage}"))
}

/// The things that a value names; whether it says nothing beside.
fn things(value: &Kept) -> (Vec<Thing>, bool) {
    let (mut found, mut whole, mut looks) = (Vec::new(), true, LOOKS);
    named(value, &mut found, &mut whole, &mut looks);
    (found, whole)
}

fn named(value: &Kept, found: &mut Vec<Thing>, whole: &mut bool, looks: &mut usize) {
    match value {
        Kept::Table(text) => match text.rsplit_once('@') {
            Some((dataset, version)) => found.push(Thing::new(ThingKind::Dataset, dataset).at(version)),
            None => *whole = false,
        },
        Kept::List(items) => items.iter().flatten().for_each(|item| named(item, found, whole, looks)),
        Kept::Json(json) => {
            *whole = false;
            artifacts(json, found, looks);
        }
        _ => *whole = false,
    }
}

/// Files that stages left, wherever a value names them.
fn artifacts(json: &Json, found: &mut Vec<Thing>, looks: &mut usize) {
    let mut todo = vec![json];
    while let Some(next) = todo.pop() {
        let Some(left) = looks.checked_sub(1) else { return };
        *looks = left;
        match next {
            Json::Array(items) => todo.extend(items.iter().rev()),
            Json::Object(fields) => {
                let text = |name: &str| fields.get(name).and_then(Json::as_str);
                let hex = |h: &&str| h.len() == 64 && h.bytes().all(|b| b.is_ascii_hexdigit());
                match (text("name"), text("hash").filter(hex), fields.get("bytes")) {
                    (Some(name), Some(hash), Some(Json::Number(_))) => {
                        found.push(Thing::new(ThingKind::Artifact, name).at(hash));
                    }
                    _ => todo.extend(fields.values().rev()),
                }
            }
            _ => {}
        }
    }
}

/// The contents of the files that a kept value names.
pub(super) fn artifacts_of(value: &[u8]) -> BTreeSet<String> {
    let all = read(Some(value)).map(|value| things(&value).0).unwrap_or_default();
    all.into_iter().filter(|t| t.kind == ThingKind::Artifact).filter_map(|t| t.version).collect()
}

fn read(bytes: Option<&[u8]>) -> Option<Kept> {
    bytes.and_then(|b| serde_json::from_slice(b).ok())
}

/// A thing that is told in more detail already is not told again.
fn input(lineage: &mut Lineage, thing: Thing) {
    if !lineage.inputs.iter().any(|known| known.is(&thing)) {
        lineage.inputs.push(thing);
    }
}

impl Ended<'_> {
    /// What it is given: things that values name, outputs of stages, files.
    pub(super) fn given(&self, given: &GivenInputs) -> Vec<Thing> {
        let Ended { task, work, .. } = self;
        let mut all = Vec::new();
        for ((_, from), (_, bytes)) in work.inputs.iter().chain(&work.each).zip(given) {
            let Some(value) = read(bytes.as_deref()) else { continue };
            let (found, whole) = things(&value);
            all.extend(found);
            if !whole {
                all.extend(from.stages().iter().map(|stage| value_of(task.run, stage)));
            }
        }
        let files = work.files.iter().filter(|(_, hash)| hash != "absent");
        all.extend(files.map(|(path, hash)| Thing::new(ThingKind::File, path.clone()).at(hash.clone())));
        all
    }

    /// The fact; none where a stage was given nothing and gave nothing that anybody else could name. `lineage` is what it said
    /// itself, `given` what it was given, `output` what is kept of it.
    pub(super) fn fact(
        &self,
        mut lineage: Lineage,
        given: Vec<Thing>,
        output: &[u8],
        at: UnixMillis,
    ) -> Option<Box<NewLineage>> {
        let Ended { task, about, .. } = self;
        given.into_iter().for_each(|thing| input(&mut lineage, thing));
        let (found, whole) = read(Some(output)).map_or((Vec::new(), false), |value| things(&value));
        let others = !found.is_empty();
        for thing in found {
            let told = lineage.outputs.iter().any(|o| o.thing.is(&thing));
            // What was only handed on was not made.
            let only_read = lineage.inputs.iter().any(|i| i.is(&thing));
            if !told && !only_read {
                lineage.outputs.push(Output::from(thing));
            }
        }
        if lineage.inputs.is_empty() && lineage.outputs.is_empty() && !others {
            return None;
        }
        if !whole {
            lineage.outputs.push(value_of(task.run, &task.stage.name).into());
        }
        let told = self.told(lineage);
        let key = *blake3::hash(format!("stage {}", task.key).as_bytes()).as_bytes();
        let job = format!("{}.{}", about.pipeline, task.stage.name);
        Some(Box::new(fact(key, &task.tenant, (&task.run.to_string(), &job), at, told)))
    }

    /// All that is known of the attempt beside.
    pub(super) fn told(&self, lineage: Lineage) -> Told {
        let Ended { task, about, work, .. } = self;
        let partition = about.partition.as_ref().and_then(|p| serde_json::to_value(p).ok());
        Told {
            lineage,
            kind: work.kind.clone(),
            pipeline: about.pipeline.to_string(),
            stage: task.stage.name.to_string(),
            attempt: Some(task.attempt),
            params: about.params.clone(),
            partition: partition.unwrap_or_default(),
            git: self.git.cloned(),
            definition: about.version.clone(),
            content: super::content::of(work),
            forebay: env!("CARGO_PKG_VERSION").to_owned(),
            began: Some(self.began.0),
            reused: self.reused,
            ..Told::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_names_the_versions_and_the_files_that_are_in_it() {
        let hash = "ab".repeat(32);
        let model = json!({"name": "model.bin", "hash": hash, "bytes": 7});
        let (found, whole) =
            things(&Kept::Json(json!({"outputs": {"model": [model]}, "result": {"name": "x"}})));
        assert_eq!(found, [Thing::new(ThingKind::Artifact, "model.bin").at(hash.clone())]);
        assert!(!whole);
        let tables = Kept::List(vec![Some(Kept::Table(format!("a@b@{hash}"))), None]);
        assert_eq!(things(&tables), (vec![Thing::new(ThingKind::Dataset, "a@b").at(hash)], true));
        assert_eq!(things(&Kept::Text("flights@1".into())), (Vec::new(), false));
    }
}

//! What no schema can say of triggers: expressions, zones, names that refer to nothing, and pipelines that start themselves.

use std::collections::{BTreeMap, BTreeSet};

use ::pipeline::triggers::{Schedule, ScheduleError, zones};
use serde_json::Value as Json;

use super::problem::{nearest, suggest};
use super::semantics::{Semantics, cycle, map};
use super::tree::join;
use super::triggers::{TriggerConfig, ZONE};

/// Fields that belong to some kinds of triggers only.
const BELONGS: [(&str, &[&str]); 4] =
    [("tz", &["cron"]), ("missed", &["cron"]), ("quiet", &["dataset", "folder"]), ("when", &["run"])];
/// How a trigger is written, for who wrote none.
const ONE_OF: &str = "add one of `http`, `cron`, `dataset`, `run`, `event`, `alert`, `folder`";

/// The triggers of a pipeline, each with where it stands.
pub(super) fn written<'a>(pointer: &str, config: &'a Json) -> Vec<(String, &'a Json)> {
    let on = join(pointer, "on");
    match config.get("on") {
        Some(Json::Array(all)) => {
            all.iter().enumerate().map(|(i, one)| (join(&on, &i.to_string()), one)).collect()
        }
        Some(one) => vec![(on, one)],
        None => Vec::new(),
    }
}

/// The pipelines that stages of a pipeline call.
fn called(config: &Json) -> impl Iterator<Item = &str> {
    let stages = config.get("stages").and_then(Json::as_array).into_iter().flatten();
    let bodies = stages.filter_map(Json::as_object).flatten();
    bodies.filter_map(|(_, body)| body.get("pipeline")?.get("name")?.as_str())
}

impl Semantics<'_> {
    /// The triggers of all pipelines. `unsound` are the pointers of problems known already.
    pub(super) fn triggers(&mut self, unsound: &BTreeSet<String>) {
        let json = self.json;
        let mut starts: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, config) in map(json, "/pipelines") {
            let mut ids = BTreeSet::new();
            let mut paths = 0;
            for (pointer, trigger) in written(&join("/pipelines", name), config) {
                let below = format!("{pointer}/");
                if unsound.iter().any(|p| *p == pointer || p.starts_with(&below)) {
                    continue;
                }
                let Ok(read) = serde_json::from_value::<TriggerConfig>(trigger.clone()) else { continue };
                if !self.kind(&pointer, &read, trigger) {
                    continue;
                }
                paths += usize::from(read.http.is_some());
                if paths > 1 && read.http.is_some() {
                    let message = format!("`{name}` has a path for requests already");
                    self.at_value(&join(&pointer, "http"), message, "keep one of them".into());
                }
                if let Some(of) = read.trigger()
                    && !ids.insert(of.id())
                {
                    self.at_value(
                        &pointer,
                        "this trigger is there already".into(),
                        "remove one of them".into(),
                    );
                }
                self.sound(&pointer, &read);
                for before in self.before(&read) {
                    starts.entry(name).or_default().push(before);
                }
            }
        }
        let triggered: BTreeSet<&str> = starts.keys().copied().collect();
        // What a stage calls is started too.
        for (caller, config) in map(json, "/pipelines") {
            for callee in called(config) {
                starts.entry(callee).or_default().push(caller.clone());
            }
        }
        let names: Vec<&str> = starts.keys().copied().collect();
        for name in names {
            if let Some(mut circle) = cycle(name, &starts) {
                // What starts what, and not what is started by what.
                circle.reverse();
                // A circle of calls alone is told where they are.
                let Some(name) = circle.iter().find(|name| triggered.contains(name.as_str())).cloned() else {
                    continue;
                };
                let message = format!("these pipelines start each other without end: {}", circle.join(" → "));
                let remedy = "remove one of these triggers";
                self.at_value(&join(&join("/pipelines", &name), "on"), message, remedy.into());
            }
        }
    }

    /// Whether it is one trigger, with what belongs to it.
    fn kind(&mut self, pointer: &str, read: &TriggerConfig, trigger: &Json) -> bool {
        let kinds = read.kinds();
        let [kind] = kinds.as_slice() else {
            let (message, remedy) = match kinds.as_slice() {
                [] => ("this trigger does not say what starts the pipeline".to_owned(), ONE_OF),
                several => (
                    format!("this trigger is several at once: {}", several.join(", ")),
                    "make each an entry of its own: `on: [{…}, {…}]`",
                ),
            };
            self.at_value(pointer, message, remedy.into());
            return false;
        };
        for (field, of) in BELONGS {
            if trigger.get(field).is_some() && !of.contains(kind) {
                let message = format!("`{field}` means nothing for a trigger by `{kind}`");
                let remedy = format!("remove it: it belongs to `{}`", of.join("` and `"));
                self.at_key(&join(pointer, field), message, remedy);
            }
        }
        true
    }

    /// What its words mean.
    fn sound(&mut self, pointer: &str, read: &TriggerConfig) {
        let json = self.json;
        if let Some(expression) = &read.cron {
            self.schedule(pointer, expression, read.tz.as_deref().unwrap_or(ZONE));
        }
        if let Some(dataset) = &read.dataset {
            let mut known: BTreeSet<String> = map(json, "/datasets").map(|(name, _)| name.clone()).collect();
            known.extend(map(json, "/pipelines").flat_map(|(_, config)| self.committed(config)));
            if !known.contains(dataset) {
                let remedy = suggest(dataset, "the datasets are", known.iter().map(String::as_str));
                self.at_value(&join(pointer, "dataset"), format!("there is no dataset `{dataset}`"), remedy);
            }
        }
        if let Some(pipeline) = &read.run {
            let known = map(json, "/pipelines").map(|(name, _)| name.as_str());
            if !known.clone().any(|name| name == pipeline) {
                let remedy = suggest(pipeline, "the pipelines are", known);
                self.at_value(&join(pointer, "run"), format!("there is no pipeline `{pipeline}`"), remedy);
            }
        }
        let places = read.event.iter().flat_map(|e| e.matches.keys());
        for place in places.filter(|p| !is_place(p)) {
            let at = join(&join(&join(pointer, "event"), "where"), place);
            let message = format!("`{place}` is no attribute of an event and no place in its data");
            self.at_key(&at, message, "write an attribute such as `subject`, or `data.NAME`".into());
        }
        if let Some(folder) = &read.folder
            && let Err(why) = crate::folders::Pattern::parse(folder)
        {
            let remedy = "write a folder and a pattern for names in it, such as `inbox/*.csv`";
            self.at_value(&join(pointer, "folder"), why, remedy.into());
        }
    }

    fn schedule(&mut self, pointer: &str, expression: &str, zone: &str) {
        let problem = match Schedule::parse(expression, zone) {
            Ok(_) => return,
            Err(problem) => problem,
        };
        let at = join(pointer, "cron");
        match problem {
            ScheduleError::Zone(zone) => {
                let remedy = match nearest(&zone, zones()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "zones are named as IANA does, such as `UTC`, `Europe/Berlin`, `America/New_York`"
                            .into()
                    }
                };
                self.at_value(&join(pointer, "tz"), format!("there is no time zone `{zone}`"), remedy);
            }
            ScheduleError::Field { field, written, expected } => {
                let message = format!("the {field} of this cron expression cannot be read: `{written}`");
                self.at_value(&at, message, format!("the {field} is {expected}"));
            }
            ScheduleError::Never => {
                let remedy = "check the day of the month against the month";
                self.at_value(&at, "this never comes up: no day is as it says".into(), remedy.into());
            }
            other => {
                let remedy = "write `minute hour day-of-month month day-of-week`, such as `\"0 3 * * 1\"`";
                self.at_value(&at, other.to_string(), remedy.into());
            }
        }
    }

    /// The pipelines whose runs start it: by their end, or by what they commit.
    fn before(&self, read: &TriggerConfig) -> Vec<String> {
        let json = self.json;
        let commits = |(_, config): &(&String, &Json)| {
            read.dataset.as_ref().is_some_and(|dataset| self.committed(config).contains(dataset))
        };
        let by_dataset = map(json, "/pipelines").filter(commits).map(|(name, _)| name.clone());
        read.run.clone().into_iter().chain(by_dataset).collect()
    }

    /// The datasets that stages of a pipeline commit: what their kinds mark by `x-forebay-writes: dataset`.
    fn committed(&self, config: &Json) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let stages = config.get("stages").and_then(Json::as_array).into_iter().flatten();
        let bodies = stages.filter_map(Json::as_object).flatten().filter_map(|(_, body)| body.as_object());
        for (kind, settings) in bodies.flatten() {
            let rule = self.schema.get("$defs").and_then(|all| all.get(kind));
            let fields = rule.and_then(|r| r.get("properties")).and_then(Json::as_object);
            for (field, rule) in fields.into_iter().flatten() {
                let writes = rule.get("x-forebay-writes").and_then(Json::as_str) == Some("dataset");
                if let (true, Some(Json::String(name))) = (writes, settings.get(field)) {
                    found.insert(name.clone());
                }
            }
        }
        found
    }
}

/// `subject`, `data`, `data.a.b`.
fn is_place(text: &str) -> bool {
    let mut segments = text.split('.');
    let first = segments.next().unwrap_or_default();
    let attribute = !first.is_empty() && first.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest: Vec<&str> = segments.collect();
    attribute && rest.iter().all(|s| !s.is_empty()) && (first == "data" || rest.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use ::pipeline::nested::{Calls, with_pipelines};
    use ::pipeline::{Problem, Registry, Site, StageKind};
    use contract::Stage;

    use super::super::{Env, check, triggers};
    use super::*;

    /// A stage that commits a dataset.
    struct Commit;

    impl StageKind for Commit {
        fn name(&self) -> &'static str {
            "commit"
        }
        fn schema(&self) -> Json {
            let dataset = serde_json::json!({"type": "string", "x-forebay-writes": "dataset"});
            serde_json::json!({"type": "object", "properties": {"dataset": dataset}, "additionalProperties": false})
        }
        fn build(&self, _: &Json, _: &Site<'_>) -> Result<Arc<dyn Stage>, Vec<Problem>> {
            Err(Vec::new())
        }
    }

    #[test]
    fn pipelines_that_start_each_other_by_what_they_commit_are_refused() {
        let mut registry = Registry::default();
        registry.register(Commit);
        let text = "pipelines:\n  a: {on: {dataset: raw}, stages: [{x: {commit: {dataset: clean}}}]}\n  \
                    b: {on: {dataset: clean}, stages: [{x: {commit: {dataset: best}}}]}\n  \
                    c: {on: [{dataset: best}], stages: [{x: {commit: {dataset: raw}}}]}\n";
        let problems = check(text.as_bytes(), Path::new("."), &Env::default(), &registry).problems;
        let circles: Vec<_> = problems.iter().filter(|p| p.message.contains("without end")).collect();
        assert_eq!(circles.len(), 1);
        assert_eq!(circles[0].message, "these pipelines start each other without end: a → b → c → a");
        assert_eq!((circles[0].line, circles[0].path.as_str()), (2, "/pipelines/a/on"));
    }

    #[test]
    fn what_a_pipeline_calls_is_started_by_it() {
        let mut registry = Registry::default();
        registry.register(Commit);
        let none = std::collections::BTreeMap::new();
        let registry = with_pipelines(&registry, &BTreeMap::new(), &none, Calls::default());
        let text = "pipelines:\n  a: {stages: [{x: {commit: {dataset: best}}}]}\n  \
                    b: {on: {dataset: best}, stages: [{x: {pipeline: {name: a}}}]}\n";
        let problems = check(text.as_bytes(), Path::new("."), &Env::default(), &registry).problems;
        let circles: Vec<_> = problems.iter().filter(|p| p.message.contains("without end")).collect();
        assert_eq!(circles.len(), 1);
        assert_eq!(circles[0].message, "these pipelines start each other without end: a → b → a");
        assert_eq!((circles[0].line, circles[0].path.as_str()), (3, "/pipelines/b/on"));
    }

    #[test]
    fn what_starts_a_pipeline_is_read_as_it_is_written() {
        let mut registry = Registry::default();
        text::register(&mut registry);
        let file = "pipelines:\n  nightly:\n    on:\n      - http: /nightly\n      - {cron: '0 3 * * 1-5', tz: Europe/Berlin, missed: all}\n      \
                    - {folder: 'inbox/*.csv', quiet: 5s}\n      - {event: {type: 'order.*', source: /shop, where: {data.kind: [a, b]}}}\n      \
                    - {run: live, when: failed}\n      - alert: drift\n    overlap: skip\n    \
                    stages: [{short: {extractive: {sentences: 3}}}]\n  \
                    live: {on: {http: /live}, stages: [{short: {extractive: {sentences: 3}}}]}\n";
        let checked = check(file.as_bytes(), Path::new("."), &Env::default(), &registry);
        assert!(checked.problems.is_empty(), "{:?}", checked.problems);
        let config = checked.config.unwrap();
        let on = |name: &str| config.pipelines[name].on.as_ref().unwrap();
        assert_eq!((on("nightly").http(), on("nightly").is_durable()), (Some("/nightly"), true));
        assert_eq!((on("live").http(), on("live").is_durable()), (Some("/live"), false));
        let plans = triggers::plans(&config);
        assert_eq!(plans.len(), 1);
        assert_eq!(plans[0].overlap, ::pipeline::triggers::Overlap::Skip);
        let ids: Vec<String> = plans[0].triggers.iter().map(::pipeline::triggers::Trigger::id).collect();
        assert_eq!(
            ids,
            [
                "cron 0 3 * * 1-5 Europe/Berlin",
                "folder inbox/*.csv",
                "event order.* from /shop where data.kind=[\"a\",\"b\"]",
                "run live failed",
                "alert drift"
            ]
        );
    }
}

//! What no schema can say: names that refer to nothing, cycles, files that are not there, and the pipelines' graphs.
//!
//! Works on JSON and reports everything, also in a file whose schema has problems elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pipeline::Registry;
use pipeline::nested::{Calls, with_pipelines};
use serde_json::{Map, Value as Json};

use self::choice::{CHAT, no_chat_model};
use super::busy::RungConfig;
use super::pipeline::{PipelineConfig, STAGE_FIELDS};
use super::problem::{Problem, suggest};
use super::starts;
use super::tree::{Node, join};
use crate::inventory;

mod choice;

/// The paths that features have, as Feast's clients ask for them.
const FEATURES: [&str; 5] =
    ["/get-online-features", "/push", "/write-to-online-store", "/materialize", "/materialize-incremental"];

/// What the checks look at.
pub(super) struct Semantics<'a> {
    pub(super) tree: &'a Node,
    pub(super) json: &'a Json,
    pub(super) schema: &'a Json,
    pub(super) registry: &'a Registry,
    /// The folder of the file.
    pub(super) folder: &'a Path,
    pub(super) problems: &'a mut Vec<Problem>,
}

impl<'a> Semantics<'a> {
    /// All checks. `unsound` are the JSON pointers of problems known already: a graph is checked only when its
    /// pipeline has none.
    pub(super) fn check(&mut self, unsound: &BTreeSet<String>) {
        self.models();
        self.addresses();
        self.stages();
        self.triggers(unsound);
        self.datasets(unsound);
        self.features(unsound);
        self.monitors(unsound);
        let json = self.json;
        // What stages may call is told by what there is.
        let parsed = map(json, "/pipelines").filter_map(|(name, config)| {
            let config = serde_json::from_value::<PipelineConfig>(config.clone()).ok()?;
            Some((name.as_str().into(), config.spec()))
        });
        let mut specs: BTreeMap<_, _> = parsed.collect();
        self.pipeline_choices(&specs);
        // What answers to a choice is called as its first pipeline is.
        for (name, choice) in map(json, "/choices") {
            let first = texts(choice, "pipelines").next().and_then(|first| specs.get(first)).cloned();
            specs.extend(first.map(|spec| (name.as_str().into(), spec)));
        }
        self.prompts();
        let registry = with_pipelines(self.registry, &specs, &BTreeMap::new(), Calls::default());
        let mut paths: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, choice) in map(json, "/choices") {
            let Some(path) = choice.get("http").and_then(Json::as_str) else { continue };
            self.path(&mut paths, &join(&join("/choices", name), "http"), (name, path));
        }
        for (name, config) in map(json, "/pipelines") {
            let pointer = join("/pipelines", name);
            if map(json, "/models").any(|(model, _)| model == name) {
                let remedy = "rename one: a pipeline is called like a model";
                self.at_key(&pointer, format!("`{name}` is a model and a pipeline"), remedy.into());
            }
            for (on, trigger) in starts::written(&pointer, config) {
                let Some(path) = trigger.get("http").and_then(Json::as_str) else { continue };
                self.path(&mut paths, &join(&on, "http"), (name, path));
            }
            if !unsound.iter().any(|p| *p == pointer || p.starts_with(&format!("{pointer}/"))) {
                self.graph(&pointer, config, &registry);
            }
        }
    }

    /// A path for requests: nobody else's.
    fn path(&mut self, paths: &mut BTreeMap<&'a str, &'a str>, own: &str, (name, path): (&'a str, &'a str)) {
        let begins =
            ["/v1/", "/v2", "/invocations", "/inference.", "/healthz", "/readyz", "/metrics", "/openapi"];
        let taken = begins.iter().find(|p| path.starts_with(**p));
        let taken = taken.or(FEATURES.iter().find(|p| path == **p));
        let other = paths.insert(path, name).filter(|other| *other != name);
        if let Some(other) = other {
            let message = format!("`{path}` already starts the pipeline `{other}`");
            self.at_value(own, message, "give each pipeline a path of its own".into());
        } else if taken.is_some() {
            let message = format!("`{path}` belongs to the server itself");
            self.at_value(own, message, "choose another path, such as `/NAME`".into());
        }
    }

    pub(super) fn at_key(&mut self, pointer: &str, message: String, remedy: String) {
        let at = self.tree.locate(pointer).label();
        self.problems.push(Problem::new(at, pointer, message, remedy));
    }

    pub(super) fn at_value(&mut self, pointer: &str, message: String, remedy: String) {
        let at = self.tree.locate(pointer).node.at;
        self.problems.push(Problem::new(at, pointer, message, remedy));
    }

    fn models(&mut self) {
        let json = self.json;
        let fallbacks = |model: &Json| -> Vec<String> {
            let list = model.get("fallback").and_then(Json::as_array);
            let name = |f: &Json| Some(f.as_str().or_else(|| f.get("model")?.as_str())?.to_owned());
            list.into_iter().flatten().filter_map(name).collect()
        };
        let models: BTreeMap<&str, Vec<String>> =
            map(json, "/models").map(|(name, m)| (name.as_str(), fallbacks(m))).collect();
        for (name, model) in map(json, "/models").filter(|(_, m)| m.is_object()) {
            let pointer = join("/models", name);
            let kinds: Vec<&str> = ["openai", "anthropic", "local", "onnx", "registry", "choice"]
                .into_iter()
                .filter(|k| model.get(k).is_some())
                .collect();
            match kinds.as_slice() {
                [] => {
                    let remedy = "add one of `openai: MODEL`, `anthropic: MODEL`, `local: FILE`, `onnx: FILE`, `registry: NAME`, `choice: [MODEL, …]`";
                    self.at_key(
                        &pointer,
                        format!("the model `{name}` does not say what it is"),
                        remedy.into(),
                    );
                }
                ["onnx"] => self.onnx(&pointer, model),
                ["registry"] => self.registered(&pointer, model),
                ["choice"] => self.choice(&pointer, name, model),
                [_] if model.get("rollout").is_some() => {
                    let message = "a `rollout` is of a `choice` alone";
                    let remedy = "remove it, or make a `choice` of this model and the one that comes";
                    self.at_key(&join(&pointer, "rollout"), message.into(), remedy.into());
                }
                [_] if model.get("features").is_some() => {
                    let message = "`features` are looked up for predictive models alone";
                    self.at_key(&join(&pointer, "features"), message.into(), "remove it".into());
                }
                ["local"] => self.local(&pointer, model),
                [_] if model.get("endpoints").is_some() => self.endpoints(&pointer, model),
                [provider] if is_nowhere(model) => {
                    let message = format!("a missing secret: the model `{name}` has no `api_key`");
                    let remedy = format!("add `api_key: ${{{}_API_KEY}}`", provider.to_uppercase());
                    self.at_key(&pointer, message, remedy);
                }
                [_] => {}
                several => {
                    let message =
                        format!("the model `{name}` is several things at once: {}", several.join(", "));
                    self.at_key(
                        &pointer,
                        message,
                        "keep one, and make the others models of their own".into(),
                    );
                }
            }
            for (i, target) in fallbacks(model).iter().enumerate() {
                let own = format!("{pointer}/fallback/{i}");
                if let Some(what) = no_chat_model(json, target) {
                    let message = format!("the model `{target}` {what}");
                    self.at_value(&own, message, CHAT.into());
                } else if !models.contains_key(target.as_str()) {
                    let remedy = suggest(target, "the models are", models.keys().copied());
                    self.at_value(&own, format!("there is no model `{target}`"), remedy);
                }
            }
            if let Some(cycle) = cycle(name, &models) {
                let message = format!("the fallbacks go in a circle: {}", cycle.join(" → "));
                let remedy = "remove one of them: a model cannot stand in for itself";
                self.at_value(&format!("{pointer}/fallback"), message, remedy.into());
            }
        }
    }

    /// Each endpoint has an address or a key, its own or the model's.
    fn endpoints(&mut self, pointer: &str, model: &Json) {
        let endpoints = model.get("endpoints").and_then(Json::as_array).into_iter().flatten().enumerate();
        for (i, _) in endpoints.filter(|(_, e)| is_nowhere(model) && is_nowhere(e)) {
            let message = "a missing secret: this endpoint has no `api_key`, and its model has none";
            self.at_value(
                &format!("{pointer}/endpoints/{i}"),
                message.into(),
                "add `api_key: ${NAME}`".into(),
            );
        }
    }

    fn registered(&mut self, pointer: &str, model: &Json) {
        self.looked_up(pointer, model);
        let own = ["registry", "alias", "features", "batch", "instances", "threads"];
        self.nothing_but((pointer, model), "predictive model", &own);
        if let Some(name) = model.get("registry").and_then(Json::as_str)
            && let Err(refused) = ::models::check::model_name(name)
        {
            let message = format!("no registered model is called `{name}`: {}", refused.message);
            self.at_key(&join(pointer, "registry"), message, "write the name that `register` has".into());
        }
    }

    fn onnx(&mut self, pointer: &str, model: &Json) {
        self.looked_up(pointer, model);
        let own = ["onnx", "features", "batch", "instances", "threads"];
        self.nothing_but((pointer, model), "predictive model", &own);
        let Some(file) = model.get("onnx").and_then(Json::as_str) else { return };
        if !self.folder.join(file).is_file() {
            let pointer = join(pointer, "onnx");
            let at = self.tree.locate(&pointer).node.at;
            let message = format!("there is no model file `{file}`");
            let remedy = "check the path: it is relative to this file";
            let problem = Problem::new(at, pointer, message, remedy);
            self.problems.push(Problem { absent: true, ..problem });
        }
    }

    /// Views in which a model's columns are looked up.
    fn looked_up(&mut self, pointer: &str, model: &Json) {
        let views: BTreeMap<&str, &Json> =
            map(self.json, "/features/views").map(|(name, view)| (name.as_str(), view)).collect();
        for (name, own) in map(model, "/features") {
            let own_pointer = join(&join(pointer, "features"), name);
            let view = own.get("view").and_then(Json::as_str).unwrap_or(name);
            let Some(found) = views.get(view) else {
                let remedy = suggest(view, "the views are", views.keys().copied());
                self.at_key(&own_pointer, format!("there is no feature view `{view}`"), remedy);
                continue;
            };
            let keys: Vec<&str> = texts(found, "keys").collect();
            for (key, _) in map(own, "/keys").filter(|(key, _)| !keys.contains(&key.as_str())) {
                let remedy = suggest(key, "its keys are", keys.iter().copied());
                let place = join(&join(&own_pointer, "keys"), key);
                self.at_key(&place, format!("the feature view `{view}` has no key `{key}`"), remedy);
            }
        }
    }

    /// Reports the fields of a model that mean nothing for what it is.
    fn nothing_but(&mut self, (pointer, model): (&str, &Json), what: &str, own: &[&str]) {
        let others =
            model.as_object().into_iter().flat_map(|m| m.keys()).filter(|k| !own.contains(&k.as_str()));
        for field in others {
            let message = format!("`{field}` means nothing for a {what}");
            self.at_key(&join(pointer, field), message, "remove it".into());
        }
    }

    fn local(&mut self, pointer: &str, model: &Json) {
        for field in ["base_url", "api_key", "endpoints"] {
            if model.get(field).is_some() {
                let message = format!("`{field}` means nothing for a local model");
                self.at_key(&join(pointer, field), message, "remove it".into());
            }
        }
        let Some(file) = model.get("local").and_then(Json::as_str) else { return };
        let is_path = file.ends_with(".gguf") || file.starts_with('.') || file.starts_with('/');
        let (message, remedy) = if is_path && !self.folder.join(file).is_file() {
            let remedy =
                "check the path (it is relative to this file), or fetch it with `forebay models pull`";
            (format!("there is no model file `{file}`"), remedy)
        } else if !is_path && !file.contains("${") && !inventory::local_file(self.folder, file).is_file() {
            let remedy = "fetch it with `forebay models pull`, or name a GGUF file (its path is relative to this file)";
            (format!("there is no model `{file}` in `models/`"), remedy)
        } else {
            return;
        };
        let pointer = join(pointer, "local");
        let at = self.tree.locate(&pointer).node.at;
        let problem = Problem::new(at, pointer, message, remedy);
        self.problems.push(Problem { absent: true, ..problem });
    }

    /// Addresses and files of the other sections.
    fn addresses(&mut self) {
        let json = self.json;
        let mut urls = vec!["/telemetry/otlp".to_owned(), "/jobs/webhook/url".to_owned()];
        urls.extend(map(json, "/models").map(|(name, _)| join("/models", name) + "/base_url"));
        for (name, model) in map(json, "/models") {
            let count = model.get("endpoints").and_then(Json::as_array).map_or(0, Vec::len);
            let endpoints = join(&join("/models", name), "endpoints");
            urls.extend((0..count).map(|n| format!("{endpoints}/{n}/base_url")));
        }
        for pointer in urls {
            let Some(text) = json.pointer(&pointer).and_then(Json::as_str) else { continue };
            let fine = url::Url::parse(text)
                .is_ok_and(|u| matches!(u.scheme(), "http" | "https" | "unix") || text.contains("${"));
            if !fine && !text.contains("${") {
                let remedy = "write the whole address, such as `https://api.example.com/v1`";
                self.at_value(&pointer, "this is not an http address".into(), remedy.into());
            }
        }
        if let Some(text) = json.pointer("/storage/url").and_then(Json::as_str).filter(|t| !t.contains("${"))
            && let Err(e) = postgres::Postgres::check(&contract::Secret::new(text))
        {
            let e = e.to_string();
            let why = e.split(": ").nth(1).and_then(|rest| rest.split("; ").next()).unwrap_or_default();
            let remedy = "write `postgres://user:${PASSWORD}@host:5432/database`, or remove `storage` to keep all in `.forebay`";
            let message = format!("this is not the address of a PostgreSQL database: {why}");
            self.at_value("/storage/url", message, remedy.into());
        }
        let artifacts =
            json.pointer("/storage/artifacts").and_then(Json::as_str).filter(|t| !t.contains("${"));
        let opened = artifacts.map(|root| data::Bucket::open(root, &BTreeMap::new()));
        if let Some(Err(data::Error::Invalid { why, .. })) = opened {
            let remedy = "write `s3://BUCKET/PREFIX`, or remove it to keep them in `.forebay/tracking`";
            self.at_value(
                "/storage/artifacts",
                format!("artifacts cannot be kept there: {why}"),
                remedy.into(),
            );
        }
        let listen = json.pointer("/server/listen").and_then(Json::as_str);
        if listen.is_some_and(|l| l.parse::<std::net::SocketAddr>().is_err() && !l.contains("${")) {
            let remedy = "write an IP address and a port, such as `127.0.0.1:8080` or `0.0.0.0:8080`";
            self.at_value("/server/listen", "this is not an address to listen on".into(), remedy.into());
        }
        let prices = json.pointer("/prices").and_then(Json::as_str);
        if let Some(file) = prices.filter(|f| !self.folder.join(f).is_file()) {
            let remedy = "check the path (it is relative to this file), or remove `prices`";
            self.at_value("/prices", format!("there is no price table `{file}`"), remedy.into());
        }
    }

    /// What stage kinds refer to, by the annotations of their schemas.
    fn stages(&mut self) {
        let (json, schema) = (self.json, self.schema);
        for (name, config) in map(json, "/pipelines") {
            let stages = config.get("stages").and_then(Json::as_array).into_iter().flatten().enumerate();
            for (i, entry) in stages {
                for (stage, body) in entry.as_object().into_iter().flatten() {
                    for (kind, settings) in body.as_object().into_iter().flatten() {
                        let rule = schema.pointer(&format!("/$defs/{kind}"));
                        if let Some(rule) = rule.filter(|_| !STAGE_FIELDS.contains(&kind.as_str())) {
                            let stages = join(&join("/pipelines", name), "stages");
                            let pointer = join(&join(&join(&stages, &i.to_string()), stage), kind);
                            self.references(rule, settings, &pointer, 0);
                        }
                    }
                }
            }
        }
    }

    fn references(&mut self, rule: &'a Json, value: &Json, pointer: &str, depth: usize) {
        if depth > super::spans::MAX_DEPTH {
            return;
        }
        let target = rule.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#'));
        if let Some(rule) = target.and_then(|t| self.schema.pointer(t)) {
            return self.references(rule, value, pointer, depth + 1);
        }
        match (rule.get("x-forebay-ref").and_then(Json::as_str), value) {
            (Some("model"), Json::String(name)) => {
                let json = self.json;
                let known = map(json, "/models").map(|(n, _)| n.as_str());
                if !known.clone().any(|n| n == name) {
                    let remedy = suggest(name, "the models are", known);
                    self.at_value(pointer, format!("there is no model `{name}`"), remedy);
                }
            }
            (Some("file"), Json::String(file)) if !self.folder.join(file).is_file() => {
                let remedy = "create it, or check the path: it is relative to this file";
                self.at_value(pointer, format!("there is no file `{file}`"), remedy.into());
            }
            _ => {}
        }
        if let (Some(Json::Object(rules)), Json::Object(values)) = (rule.get("properties"), value) {
            for (name, value) in values {
                if let Some(rule) = rules.get(name) {
                    self.references(rule, value, &join(pointer, name), depth + 1);
                }
            }
        }
        if let (Some(rule), Json::Array(values)) = (rule.get("items"), value) {
            for (i, value) in values.iter().enumerate() {
                self.references(rule, value, &join(pointer, &i.to_string()), depth + 1);
            }
        }
    }

    /// The graph's own check, with its findings brought to their places in the file.
    fn graph(&mut self, pointer: &str, config: &Json, registry: &Registry) {
        let Ok(config) = serde_json::from_value::<PipelineConfig>(config.clone()) else { return };
        let spec = config.spec();
        let findings = match pipeline::check(&spec, registry) {
            Err(findings) => findings,
            Ok(graph) => return self.rungs(pointer, &config, &graph),
        };
        for finding in findings {
            let mut own = pointer.to_owned();
            if let Some(i) = finding.place.stage {
                own = join(&join(&own, "stages"), &i.to_string());
                if let Some(stage) = spec.stages.get(i) {
                    own = join(&own, stage.name.as_str());
                }
            }
            for segment in &finding.place.path {
                own = join(&own, segment);
            }
            let found = self.tree.locate(&own);
            let scalar = !matches!(found.node.data, super::tree::Data::Map(_) | super::tree::Data::List(_));
            let at = if found.exact && scalar { found.node.at } else { found.label() };
            self.problems.push(Problem::new(at, own, finding.message, finding.remedy));
        }
    }

    /// What a pipeline does when it is busy must be something that it can do.
    fn rungs(&mut self, pointer: &str, config: &PipelineConfig, graph: &pipeline::Graph) {
        let rungs = config.when_busy.iter().flat_map(|b| &b.then).enumerate();
        for (i, rung) in rungs {
            let own = format!("{pointer}/when_busy/then/{i}");
            match rung {
                RungConfig::Model(model) if self.json.pointer(&join("/models", model)).is_none() => {
                    let all = map(self.json, "/models").map(|(name, _)| name.as_str());
                    let remedy = suggest(model, "the models are", all);
                    self.at_value(&join(&own, "model"), format!("there is no model `{model}`"), remedy);
                }
                RungConfig::Draft if crate::pipelines::draft(&config.spec(), graph).is_none() => {
                    let message = "this pipeline has no draft that is made without a model";
                    let remedy = "add a stage such as `- draft: {extractive: {sentences: 3}}`, or remove it";
                    self.at_value(&own, message.into(), remedy.into());
                }
                _ => {}
            }
        }
    }
}

/// Whether a model or an endpoint says neither where it is nor with which key.
fn is_nowhere(of: &Json) -> bool {
    of.get("base_url").is_none() && of.get("api_key").is_none()
}

/// The entries of the object at a pointer.
pub(super) fn map<'a>(json: &'a Json, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Json)> + Clone {
    let object: Option<&'a Map<String, Json>> = json.pointer(pointer).and_then(Json::as_object);
    object.into_iter().flatten()
}

/// The texts of a list that is a field.
pub(super) fn texts<'a>(json: &'a Json, field: &str) -> impl Iterator<Item = &'a str> {
    json.get(field).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

/// The circle that starts and ends at `start`, reported once: at the first of its models by name.
pub(super) fn cycle(start: &str, models: &BTreeMap<&str, Vec<String>>) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut stack = vec![vec![start.to_owned()]];
    while let Some(path) = stack.pop() {
        let last = path.last()?;
        for next in models.get(last.as_str()).into_iter().flatten() {
            let mut longer = path.clone();
            longer.push(next.clone());
            if next == start {
                return (path.iter().min().map(String::as_str) == Some(start)).then_some(longer);
            }
            if seen.insert(next.clone()) {
                stack.push(longer);
            }
        }
    }
    None
}

//! The schema's complaints in words of ours: every error of the `jsonschema` crate becomes a [`Problem`] that names
//! the place and what to write there.

use std::collections::BTreeSet;

use jsonschema::{ValidationError, error::ValidationErrorKind as Kind};
use serde_json::{Map, Value as Json};

use super::env::Substituted;
use super::pipeline::STAGE_FIELDS;
use super::problem::{Problem, suggest};
use super::rules::Rules;
use super::tree::{Node, Place, join, segments};

/// Validates `json`, the values of `tree`. Text that the environment put where a number or a flag is wanted becomes
/// one first.
pub(super) fn validate(rules: &Rules<'_>, tree: &Node, json: &mut Json, env: &Substituted) -> Vec<Problem> {
    let validator = match &rules.validator {
        Ok(validator) => validator,
        Err(e) => {
            let message = format!("a kind of stage has a schema that cannot be used: {e}");
            return vec![Problem::new(
                Place::default(),
                "",
                message,
                "this is a defect of this binary: report it",
            )];
        }
    };
    let coerced: Vec<(String, Json)> = validator.iter_errors(json).filter_map(|e| coerce(&e, env)).collect();
    for (pointer, value) in coerced {
        if let Some(slot) = json.pointer_mut(&pointer) {
            *slot = value;
        }
    }
    let mut explain =
        Explain { schema: &rules.schema, tree, env, problems: Vec::new(), wrong_entries: BTreeSet::new() };
    let errors: Vec<_> = validator.iter_errors(json).collect();
    for e in &errors {
        if matches!(e.kind(), Kind::MaxProperties { .. }) {
            explain.wrong_entries.insert(e.instance_path().to_string());
        }
    }
    for e in &errors {
        explain.error(e);
    }
    explain.problems
}

fn coerce(e: &ValidationError<'_>, env: &Substituted) -> Option<(String, Json)> {
    let pointer = e.instance_path().to_string();
    if !matches!(e.kind(), Kind::Type { .. }) || !env.filled.contains(&pointer) {
        return None;
    }
    let value: Json = serde_json::from_str(e.instance().as_str()?).ok()?;
    (value.is_number() || value.is_boolean()).then_some((pointer, value))
}

struct Explain<'a> {
    schema: &'a Json,
    tree: &'a Node,
    env: &'a Substituted,
    problems: Vec<Problem>,
    /// Entries of a stage list that hold more than one key: what is wrong inside follows from that.
    wrong_entries: BTreeSet<String>,
}

impl Explain<'_> {
    fn push(&mut self, at: Place, path: &str, message: impl Into<String>, remedy: impl Into<String>) {
        self.problems.push(Problem::new(at, path, message, remedy));
    }

    /// The schema object that holds the keyword which failed.
    fn rule(&self, e: &ValidationError<'_>) -> Option<&Map<String, Json>> {
        let path = e.schema_path().to_string();
        let (parent, _) = path.rsplit_once('/')?;
        self.schema.pointer(parent)?.as_object()
    }

    fn expected(&self, e: &ValidationError<'_>) -> Option<String> {
        Some(self.rule(e)?.get("x-expected")?.as_str()?.to_owned())
    }

    fn error(&mut self, e: &ValidationError<'_>) {
        let path = e.instance_path().to_string();
        let follows = |entry: &String| path.starts_with(&format!("{entry}/"));
        if self.env.missing.contains(&path) || self.wrong_entries.iter().any(follows) {
            return;
        }
        let found = self.tree.locate(&path);
        let (at, label) = (found.node.at, found.label());
        let marked = |name: &str| self.rule(e).is_some_and(|r| r.get("x-forebay").is_some_and(|m| m == name));
        match e.kind() {
            Kind::AdditionalProperties { unexpected } => self.unknown(e, unexpected, &path),
            Kind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                self.push(label, &path, format!("the field `{name}` is missing"), format!("add `{name}: …`"));
            }
            Kind::OneOfMultipleValid { .. } if marked("stage") => {
                let kinds = kinds(e.instance()).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(" and ");
                let message = format!("this stage is of more than one kind: {kinds}");
                self.push(label, &path, message, "make it two stages, the second with `from:` the first");
            }
            // A misspelt kind is reported as an unknown field.
            Kind::OneOfNotValid { .. } if marked("stage") => {
                if e.instance().is_object() && kinds(e.instance()).next().is_none() {
                    let all = self.rule(e).map(known).unwrap_or_default();
                    let all = all.iter().filter(|f| !STAGE_FIELDS.contains(&f.as_str()));
                    let all = all.map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
                    self.push(label, &path, "this stage has no kind", format!("add one of {all}"));
                }
            }
            Kind::MaxProperties { .. } if marked("stage-entry") => self.push(
                label,
                &path,
                "a stage is one entry, `name: {KIND: {…}}`, and this has several",
                "indent what belongs to the stage deeper than its name, and begin each stage with `- `",
            ),
            Kind::AnyOf { context } | Kind::OneOfNotValid { context } => self.branches(e, context),
            Kind::Type { kind } => {
                let expected = self.expected(e).unwrap_or_else(|| type_words(&format!("{kind:?}")));
                self.mismatch(e, &expected);
            }
            Kind::Enum { options } => {
                let options: Vec<&str> =
                    options.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
                let written = self.written(e);
                let bare = e.instance().as_str().unwrap_or_default();
                let remedy = if self.env.filled.contains(&path) { "" } else { bare };
                let remedy = suggest(remedy, "it is one of", options.into_iter());
                self.push(at, &path, format!("{written} is not a value of this field"), remedy);
            }
            Kind::Pattern { .. } => {
                let expected = self.expected(e).unwrap_or_else(|| "another form".into());
                self.mismatch(e, &expected);
            }
            Kind::PropertyNames { error } => {
                let name = error.instance().as_str().unwrap_or_default().to_owned();
                let place = self.tree.locate(&join(&path, &name)).label();
                let expected = self.expected(error).or_else(|| {
                    Some(self.rule(e)?.get("propertyNames")?.get("x-expected")?.as_str()?.to_owned())
                });
                let remedy = format!("use {}", expected.unwrap_or_else(|| "another name".into()));
                self.push(place, &join(&path, &name), format!("`{name}` cannot be a name"), remedy);
            }
            Kind::Minimum { limit } => {
                self.push(
                    at,
                    &path,
                    format!("{} is too small", self.written(e)),
                    format!("give at least {limit}"),
                );
            }
            Kind::Maximum { limit } => {
                self.push(
                    at,
                    &path,
                    format!("{} is too large", self.written(e)),
                    format!("give at most {limit}"),
                );
            }
            Kind::ExclusiveMinimum { limit } => {
                self.push(
                    at,
                    &path,
                    format!("{} is too small", self.written(e)),
                    format!("give more than {limit}"),
                );
            }
            Kind::ExclusiveMaximum { limit } => {
                self.push(
                    at,
                    &path,
                    format!("{} is too large", self.written(e)),
                    format!("give less than {limit}"),
                );
            }
            Kind::MinItems { limit } | Kind::MinLength { limit } | Kind::MinProperties { limit } => {
                self.push(label, &path, "there is too little here", format!("give at least {limit}"));
            }
            Kind::MaxItems { limit } | Kind::MaxLength { limit } | Kind::MaxProperties { limit } => {
                self.push(label, &path, "there is too much here", format!("give at most {limit}"));
            }
            Kind::Constant { expected_value } => self.mismatch(e, &expected_value.to_string()),
            _ => {
                let expected =
                    self.expected(e).unwrap_or_else(|| "what the schema says: see `forebay schema`".into());
                self.mismatch(e, &expected);
            }
        }
    }

    fn unknown(&mut self, e: &ValidationError<'_>, unexpected: &[String], path: &str) {
        let mut known = self.rule(e).map(known).unwrap_or_default();
        let stage = self.rule(e).is_some_and(|r| r.get("x-forebay").is_some_and(|m| m == "stage"));
        let written: BTreeSet<String> =
            e.instance().as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default();
        // With a kind already there, another kind is no advice.
        if stage && kinds(e.instance()).any(|k| known.contains(k)) {
            known.retain(|k| STAGE_FIELDS.contains(&k.as_str()));
        }
        known.retain(|k| !written.contains(k));
        for name in unexpected {
            let pointer = join(path, name);
            let at = self.tree.locate(&pointer).label();
            let place = segments(path).filter(|s| s.parse::<usize>().is_err()).collect::<Vec<_>>().join(".");
            let place = if place.is_empty() { String::new() } else { format!(" in `{place}`") };
            let message = format!("unknown field `{name}`{place}");
            let remedy = suggest(name, "what can be added here", known.iter().map(String::as_str));
            self.push(at, &pointer, message, remedy);
        }
    }

    /// Of several forms, the one whose type fits is the one that was meant.
    fn branches(&mut self, e: &ValidationError<'_>, context: &[Vec<ValidationError<'static>>]) {
        let path = e.instance_path();
        let meant = |errors: &&Vec<ValidationError<'static>>| {
            !errors.iter().any(|b| matches!(b.kind(), Kind::Type { .. }) && b.instance_path() == path)
        };
        let mut fitting = context.iter().filter(meant);
        match (fitting.next(), fitting.next()) {
            (Some(errors), None) => errors.iter().for_each(|b| self.error(b)),
            _ => {
                let expected = self.expected(e).unwrap_or_else(|| "another form".into());
                self.mismatch(e, &expected);
            }
        }
    }

    fn mismatch(&mut self, e: &ValidationError<'_>, expected: &str) {
        let path = e.instance_path().to_string();
        let at = self.tree.locate(&path);
        let place = if e.instance().is_null() { at.label() } else { at.node.at };
        let message = format!("expected {expected}, found {}", self.written(e));
        let remedy = match e.instance().as_ref() {
            Json::Null => "give it a value, or remove the field".into(),
            Json::Number(_) if expected.starts_with("text") => {
                format!("put it in quotes: \"{}\"", e.instance())
            }
            Json::Bool(_) if expected.starts_with("text") => "put it in quotes".into(),
            Json::Number(n) if expected.contains("time") => format!("write the unit: `{n}s` or `{n}ms`"),
            Json::Number(n) if expected.contains("size") => format!("write the unit: `{n}b` or `{n}mb`"),
            _ => format!("write {expected}"),
        };
        self.push(place, &path, message, remedy);
    }

    /// What was found, without what the environment put in and without what could be a secret.
    fn written(&self, e: &ValidationError<'_>) -> String {
        let path = e.instance_path().to_string();
        match e.instance().as_ref() {
            _ if self.env.filled.contains(&path) => "the value of a variable".into(),
            Json::Null => "nothing".into(),
            _ if super::SECRETS.iter().any(|s| path.ends_with(&format!("/{s}"))) => "something else".into(),
            Json::Array(_) => "a list".into(),
            Json::Object(_) => "a map".into(),
            Json::String(s) if s.chars().count() > 60 => "a long text".into(),
            Json::String(s) => format!("`{s}`"),
            other => format!("`{other}`"),
        }
    }
}

/// Fields of a stage that are no common field: its kinds.
fn kinds(stage: &Json) -> impl Iterator<Item = &String> {
    stage.as_object().into_iter().flat_map(Map::keys).filter(|k| !STAGE_FIELDS.contains(&k.as_str()))
}

fn known(rule: &Map<String, Json>) -> Vec<String> {
    let properties = rule.get("properties").and_then(Json::as_object);
    properties.map(|p| p.keys().cloned().collect()).unwrap_or_default()
}

fn type_words(kinds: &str) -> String {
    let words = [
        ("Integer", "a whole number"),
        ("Number", "a number"),
        ("String", "text"),
        ("Boolean", "true or false"),
        ("Array", "a list"),
        ("Object", "a map"),
        ("Null", "nothing"),
    ];
    let lower = kinds.to_lowercase();
    let found: Vec<&str> =
        words.iter().filter(|(n, _)| lower.contains(&n.to_lowercase())).map(|(_, w)| *w).collect();
    if found.is_empty() { "another type".into() } else { found.join(" or ") }
}

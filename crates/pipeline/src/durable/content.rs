//! What a stage's value is made of, and its hash: equal content, equal value. Pure.

use contract::{StageName, TenantId};
use serde_json::{Map, Value as Json};

use super::kept::Kept;
use super::stage::StageWork;

/// The hash of what a stage's plan says of its value: not where that stands, nor what it is given.
pub(super) fn of(work: &StageWork) -> String {
    let mut hash = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(work.kind.as_bytes());
    part(&work.version.to_le_bytes());
    part(work.config.to_string().as_bytes());
    for (path, content) in &work.files {
        part(path.as_bytes());
        part(content.as_bytes());
    }
    for (name, _) in work.inputs.iter().chain(&work.each) {
        part(name.as_bytes());
    }
    // Only where there is any: what was kept before there was is found again.
    for (name, hash) in &work.made_of {
        part(b"made of");
        part(name.as_bytes());
        part(hash.as_bytes());
    }
    if let Some(collect) = &work.collect {
        part(b"collect");
        part(collect.output.as_bytes());
        collect.keep.iter().for_each(|name| part(name.as_bytes()));
    }
    hash.finalize().to_hex().to_string()
}

/// What a stage is given, input by input, as it is kept; `None` where a contract skipped it.
pub(super) type GivenInputs = Vec<(String, Option<Vec<u8>>)>;

/// All that a value is made of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Content {
    pub(super) key: [u8; 32],
    /// Part by part, for people: `config`, `file q.sql`, `input flights`.
    pub(super) parts: Map<String, Json>,
}

/// What the value of a stage is made of, given these inputs. Tenants are apart by the key itself, and so are stages of other
/// names: one may look at its own.
pub(super) fn content(
    tenant: &TenantId,
    stage: &StageName,
    work: &StageWork,
    given: &GivenInputs,
) -> Content {
    let mut hash = blake3::Hasher::new_derive_key("forebay 2026 stage results");
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(tenant.as_str().as_bytes());
    part(stage.as_str().as_bytes());
    part(of(work).as_bytes());
    let mut parts = Map::new();
    parts.insert("kind".into(), Json::from(format!("{} {}", work.kind, work.version)));
    parts.insert("config".into(), work.config.clone());
    for (path, content) in &work.files {
        parts.insert(format!("file {path}"), Json::from(content.get(..12).unwrap_or(content)));
    }
    for (name, hash) in &work.made_of {
        parts.insert(name.clone(), Json::from(hash.get(..12).unwrap_or(hash)));
    }
    if let Some(collect) = &work.collect {
        parts.insert("collect".into(), serde_json::to_value(collect).unwrap_or_default());
    }
    for (name, value) in given {
        part(name.as_bytes());
        match value {
            Some(bytes) => part(blake3::hash(bytes).as_bytes()),
            None => part(b"nothing"),
        }
        let short = value.as_deref().map_or_else(|| "nothing".to_owned(), Kept::short);
        parts.insert(format!("input {name}"), Json::from(short));
    }
    Content { key: *hash.finalize().as_bytes(), parts }
}

/// What is not as it was when the stage was run last, in a few words: `config changed: query; input flights: a → b`.
pub(super) fn difference(before: &Map<String, Json>, now: &Map<String, Json>) -> String {
    let mut all = Vec::new();
    for (name, value) in now {
        match before.get(name) {
            None => all.push(format!("{name} is new")),
            Some(old) if old == value => {}
            Some(old) => all.push(changed(name, old, value)),
        }
    }
    all.extend(before.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} is gone")));
    if all.is_empty() { "its earlier result is not kept any more".into() } else { all.join("; ") }
}

fn changed(name: &str, old: &Json, new: &Json) -> String {
    if let (Json::Object(old), Json::Object(new)) = (old, new) {
        let fields = new.iter().filter(|(k, v)| old.get(*k) != Some(v)).map(|(k, _)| k.as_str());
        let gone = old.keys().filter(|k| !new.contains_key(*k)).map(String::as_str);
        let names: Vec<&str> = fields.chain(gone).collect();
        return format!("{name} changed: {}", names.join(", "));
    }
    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    format!("{name}: {} → {}", text(old), text(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn work(query: &str, file: &str) -> StageWork {
        StageWork {
            kind: "sql".into(),
            version: 1,
            config: json!({"query": query}),
            inputs: vec![("flights".into(), super::super::stage::From::Input)],
            each: None,
            parallel: 1,
            cached: true,
            default: None,
            files: vec![("q.sql".into(), file.into())],
            approval: None,
            made_of: vec![],
            collect: None,
            tokens: None,
            nanousd: None,
        }
    }

    fn given(value: &str) -> GivenInputs {
        vec![("flights".into(), Some(serde_json::to_vec(&Kept::Table(value.into())).unwrap()))]
    }

    #[test]
    fn a_difference_names_what_is_not_as_it_was() {
        let of = |w: &StageWork, v: &str| content(&"t".into(), &"s".into(), w, &given(v)).parts;
        let before = of(&work("a", "x"), "flights@1");
        assert_eq!(difference(&before, &of(&work("b", "x"), "flights@1")), "config changed: query");
        assert_eq!(difference(&before, &of(&work("a", "y"), "flights@1")), "file q.sql: x → y");
        assert_eq!(
            difference(&before, &of(&work("a", "x"), "flights@2")),
            "input flights: flights@1 → flights@2"
        );
    }

    proptest! {
        #[test]
        fn keys_are_equal_exactly_where_the_content_is(
            a in ("[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}", "[ab]"), b in ("[ab]{0,2}", "[ab]{0,2}", "[ab]{0,2}", "[ab]")
        ) {
            let key = |t: &(String, String, String, String)| {
                content(&t.3.as_str().into(), &"s".into(), &work(&t.0, &t.1), &given(&t.2)).key
            };
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }
    }
}

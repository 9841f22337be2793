//! The JSON Schema of the whole file: the configuration structs, and each kind of stage of the registry.
//!
//! Annotations of ours: `x-expected` says in words what a value must be; `x-forebay` marks the stage objects;
//! `x-forebay-ref: model | file` on a string of a stage kind's schema says what it must name, and is checked.

use pipeline::Registry;
use serde_json::{Map, Value as Json, json};

use super::model::Config;

/// The schema for this registry.
pub fn of(registry: &Registry) -> Json {
    let mut root = schemars::schema_for!(Config).to_value();
    yaml::shape::without_null(&mut root);
    let mut definitions = Map::new();
    let mut kinds = Vec::new();
    for kind in registry.iter() {
        let mut schema = kind.schema();
        rebase(&mut schema, kind.name());
        if let Some(object) = schema.as_object_mut() {
            object.remove("$schema");
            if let Some(Json::Object(own)) = object.remove("$defs") {
                definitions.extend(own.into_iter().map(|(name, s)| (format!("{}.{name}", kind.name()), s)));
            }
        }
        definitions.insert(kind.name().to_owned(), schema);
        kinds.push(kind.name());
    }
    if let Some(stage) =
        root.pointer_mut("/$defs/StageEntry/additionalProperties").and_then(Json::as_object_mut)
    {
        if let Some(properties) = stage.get_mut("properties").and_then(Json::as_object_mut) {
            for kind in &kinds {
                properties.insert((*kind).to_owned(), json!({"$ref": format!("#/$defs/{kind}")}));
            }
        }
        if !kinds.is_empty() {
            let one = kinds.iter().map(|k| json!({"required": [k]})).collect();
            stage.insert("oneOf".into(), Json::Array(one));
        }
    }
    if let Some(all) = root.pointer_mut("/$defs").and_then(Json::as_object_mut) {
        all.extend(definitions);
    }
    for section in ["models", "tenants", "pipelines", "choices", "prompts"] {
        if let Some(map) = root.pointer_mut(&format!("/properties/{section}")).and_then(Json::as_object_mut) {
            let name = json!({"pattern": "^[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}$",
                "x-expected": "a name of letters, digits and `. _ - / :`, at most 64"});
            map.insert("propertyNames".into(), name);
        }
    }
    if let Some(map) = root.pointer_mut("/properties/datasets").and_then(Json::as_object_mut) {
        let name = json!({"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
            "x-expected": "a name of letters, digits and `. _ -`, at most 128"});
        map.insert("propertyNames".into(), name);
    }
    if let Some(object) = root.as_object_mut() {
        object.insert("title".into(), json!("forebay.yaml"));
    }
    root
}

/// Moves references within a kind's own schema to where its definitions are put.
fn rebase(schema: &mut Json, kind: &str) {
    match schema {
        Json::Array(items) => items.iter_mut().for_each(|s| rebase(s, kind)),
        Json::Object(object) => {
            if let Some(Json::String(target)) = object.get_mut("$ref") {
                if let Some(name) = target.strip_prefix("#/$defs/") {
                    *target = format!("#/$defs/{kind}.{name}");
                } else if target == "#" {
                    *target = format!("#/$defs/{kind}");
                }
            }
            object.values_mut().for_each(|s| rebase(s, kind));
        }
        _ => {}
    }
}

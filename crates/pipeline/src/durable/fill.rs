//! What a run is given goes into the configuration of its stages: `{{ params.month }}`, `{{ partition.start }}`,
//! `{{ matrix.rate }}`. Names and nothing else: no expressions, so that what is filled in can be told before anything runs.
//! What begins with another name is left to the stage. Pure.

use contract::{Code, Error};
use serde_json::{Map, Value as Json};

/// The names that are filled in.
const ROOTS: [&str; 4] = ["params", "partition", "matrix", "run"];

/// `config` with every place filled in from `given`. A text that is one place and nothing else becomes the value itself.
///
/// # Errors
/// `invalid_request` for a name that is not given.
pub(super) fn fill(config: &Json, given: &Map<String, Json>) -> Result<Json, Error> {
    Ok(match config {
        Json::String(text) => fill_text(text, given)?,
        Json::Array(items) => Json::Array(items.iter().map(|i| fill(i, given)).collect::<Result<_, _>>()?),
        Json::Object(map) => {
            let one = |(k, v): (&String, &Json)| Ok((k.clone(), fill(v, given)?));
            Json::Object(map.iter().map(one).collect::<Result<_, Error>>()?)
        }
        other => other.clone(),
    })
}

fn fill_text(text: &str, given: &Map<String, Json>) -> Result<Json, Error> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, at)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((inside, behind)) = at.split_once("}}") else {
            filled.push_str("{{");
            rest = at;
            continue;
        };
        let path = inside.trim();
        if !ROOTS.contains(&path.split('.').next().unwrap_or_default()) {
            filled.push_str("{{");
            rest = at;
            continue;
        }
        let value = look_up(path, given)?;
        if before.is_empty() && filled.is_empty() && behind.is_empty() {
            return Ok(value.clone());
        }
        match value {
            Json::String(s) => filled.push_str(s),
            other => filled.push_str(&other.to_string()),
        }
        rest = behind;
    }
    filled.push_str(rest);
    Ok(Json::String(filled))
}

fn look_up<'a>(path: &str, given: &'a Map<String, Json>) -> Result<&'a Json, Error> {
    let mut parts = path.split('.');
    let mut at = parts.next().and_then(|root| given.get(root));
    for part in parts {
        at = at.and_then(|v| v.get(part.trim()));
    }
    at.ok_or_else(|| {
        let (root, name) = path.split_once('.').unwrap_or((path, ""));
        let known: Vec<&str> = given
            .get(root)
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
            .map(|(k, _)| k.as_str())
            .collect();
        let there = if known.is_empty() {
            format!("this run is given no {root}")
        } else {
            format!("there are {}", known.join(", "))
        };
        Error::new(
            Code::InvalidRequest,
            format!("`{{{{ {path} }}}}`: there is no `{name}` among {root}: {there}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn given() -> Map<String, Json> {
        let given =
            json!({"params": {"month": 3, "name": "a", "list": [1]}, "partition": {"start": "2013-01-01"}});
        given.as_object().cloned().unwrap()
    }

    #[test]
    fn places_are_filled_in_with_their_types_and_others_are_left() {
        let config = json!({
            "whole": "{{ params.month }}", "list": ["{{params.list}}"],
            "text": "month {{ params.month }} of {{ params.name }} from {{partition.start}}",
            "other": "{{ inputs.rows }} and {{", "n": 7,
        });
        let filled = fill(&config, &given()).unwrap();
        assert_eq!(
            filled,
            json!({
                "whole": 3, "list": [[1]], "text": "month 3 of a from 2013-01-01",
                "other": "{{ inputs.rows }} and {{", "n": 7,
            })
        );
    }

    #[test]
    fn a_name_that_is_not_given_is_named_with_those_that_are() {
        let e = fill(&json!("x {{ params.moth }}"), &given()).unwrap_err();
        assert!(e.message.contains("`moth`") && e.message.contains("month"), "{e}");
        assert!(fill(&json!("{{ matrix.x }}"), &given()).unwrap_err().message.contains("no matrix"));
    }

    proptest! {
        #[test]
        fn any_text_without_places_is_left_as_it_is(text in "[^p{}]{0,20}[{} ]{0,6}[^p{}]{0,9}") {
            prop_assert_eq!(fill(&json!(text.clone()), &given()).unwrap(), json!(text));
        }
    }
}

//! What a run is given goes into the configuration of its stages: `{{ params.month }}`, `{{ partition.start }}`,
//! `{{ matrix.rate }}`. Names and nothing else: no expressions, so that what is filled in can be told before anything runs.
//! What begins with another name is left to the stage. Pure.

use contract::{Code, Error};
use serde_json::{Map, Value as Json};

use crate::registry::TextField;

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

/// The same of a stage whose `templates` are rendered once more with what it is given: what a caller chose goes into those as a
/// value that the template writes, and is never read as a part of it.
///
/// # Errors
/// Those of [`fill`], and `invalid_request` for a value that would end the text that it stands in.
pub(super) fn fill_stage(
    config: &Json,
    (given, own): (&Map<String, Json>, &Map<String, Json>),
    templates: &[TextField],
) -> Result<Json, Error> {
    let Json::Object(map) = config else { return fill(config, given) };
    let one = |(name, value): (&String, &Json)| {
        let filled = match templates.iter().find(|t| t.name == name) {
            Some(field) => fill_template(value, given, own, *field)?,
            None => fill(value, given)?,
        };
        Ok((name.clone(), filled))
    };
    Ok(Json::Object(map.iter().map(one).collect::<Result<_, Error>>()?))
}

fn fill_template(
    value: &Json,
    given: &Map<String, Json>,
    own: &Map<String, Json>,
    field: TextField,
) -> Result<Json, Error> {
    let text = match value {
        Json::String(text) => text,
        // JSON keeps its form whatever is filled in.
        Json::Object(map) if !field.quoted => {
            let one = |(k, v): (&String, &Json)| Ok((k.clone(), fill_template(v, given, own, field)?));
            return Ok(Json::Object(map.iter().map(one).collect::<Result<_, Error>>()?));
        }
        other => return fill(other, given),
    };
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        let place = match piece {
            Piece::Text(text) => {
                filled.push_str(text);
                continue;
            }
            Piece::Place(place) => place,
        };
        let (path, filter) = match place.split_once('|') {
            Some((path, filter)) => (path.trim(), Some(filter.trim())),
            None => (place, None),
        };
        let value = look_up(path, given)?;
        let chosen = is_chosen(path, given, own);
        // A whole address may be chosen; who may be asked is decided when it is.
        let whole = filled.is_empty() && is_plain(value);
        match (value, filter) {
            (Json::String(text), None) if !chosen || whole => filled.push_str(text),
            (value, None) if !value.is_string() => filled.push_str(&value.to_string()),
            (value, filter) => {
                let ends = |c: char| c.is_control() || c == '"' || c == '\\';
                if field.quoted && filter.is_none() && value.as_str().is_some_and(|v| v.contains(ends)) {
                    let m = format!(
                        "`{path}` holds quotes or control characters: write `{{{{ {path} | tojson }}}}`"
                    );
                    return Err(Error::new(Code::InvalidRequest, m).param("params"));
                }
                let filter = filter.map_or_else(String::new, |f| format!(" | {f}"));
                filled.push_str(&format!("{{{{ {}{filter} }}}}", literal(value)));
            }
        }
    }
    Ok(Json::String(filled))
}

/// A value as a template's literal: JSON, in which nothing looks like a template.
fn literal(value: &Json) -> String {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            // Outside of texts these are the value's own form.
            '{' | '}' | '%' | '#' if value.is_string() => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text
}

/// A piece of a text.
enum Piece<'a> {
    /// As it is.
    Text(&'a str),
    /// A place that is filled in: its path.
    Place(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    // Where the text begins that is left as it is, and from where on places are looked for.
    let (mut plain, mut from) = (0, 0);
    while let Some(open) = text.get(from..).and_then(|t| t.find("{{")).map(|at| from + at) {
        from = open + 2;
        let inside = text.get(from..).and_then(|at| at.split_once("}}")).map(|(inside, _)| inside);
        let Some(inside) = inside else { break };
        if ROOTS.contains(&inside.trim().split('.').next().unwrap_or_default()) {
            pieces.extend(text.get(plain..open).filter(|t| !t.is_empty()).map(Piece::Text));
            pieces.push(Piece::Place(inside.trim()));
            from += inside.len() + 2;
            plain = from;
        }
    }
    pieces.extend(text.get(plain..).filter(|t| !t.is_empty()).map(Piece::Text));
    pieces
}

fn fill_text(text: &str, given: &Map<String, Json>) -> Result<Json, Error> {
    let pieces = pieces(text);
    if let [Piece::Place(path)] = pieces.as_slice() {
        return look_up(path, given).cloned();
    }
    let mut filled = String::with_capacity(text.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Place(path) => match look_up(path, given)? {
                Json::String(s) => filled.push_str(s),
                other => filled.push_str(&other.to_string()),
            },
        }
    }
    Ok(Json::String(filled))
}

/// Whether a text that is read as code may be filled in: what a caller chose (`params`, when it is not what the configuration
/// has, and `partition`) must be plain, so that nobody outside writes into a command or a query.
///
/// # Errors
/// `invalid_request` that names the place.
pub(super) fn check_code(
    text: &str,
    given: &Map<String, Json>,
    own: &Map<String, Json>,
) -> Result<(), Error> {
    for piece in pieces(text) {
        let Piece::Place(path) = piece else { continue };
        if is_chosen(path, given, own) && !is_plain(look_up(path, given)?) {
            let m = format!(
                "`{path}` goes into a text that is read as code, and holds more than letters, digits and _.,:/@%+=-: \
                 give it by `env` (a command) or `values` (a query)"
            );
            return Err(Error::new(Code::InvalidRequest, m).param("params"));
        }
    }
    Ok(())
}

/// Whether a text that names a file may be filled in: what a caller chose must not lead out of where the text itself leads.
///
/// # Errors
/// `invalid_request` that names the place.
pub(super) fn check_path(
    text: &str,
    given: &Map<String, Json>,
    own: &Map<String, Json>,
) -> Result<(), Error> {
    let up = |path: &str| path.split(['/', '\\']).filter(|part| *part == "..").count();
    let odd = |c: char| c.is_control() || "*?[]{}\\".contains(c);
    let pieces = pieces(text);
    if let [Piece::Place(path)] = pieces.as_slice()
        && let Json::Array(names) = look_up(path, given)?
    {
        // A list of names: each as if it stood there alone.
        let leads = |name: &str| name.starts_with(['/', '~']) || name.contains(odd) || up(name) > 0;
        let outside = names.iter().filter_map(Json::as_str).any(leads);
        return if outside && is_chosen(path, given, own) { Err(elsewhere(path)) } else { Ok(()) };
    }
    let (mut filled, mut bare) = (String::new(), String::new());
    for piece in pieces {
        let path = match piece {
            Piece::Text(text) => {
                filled.push_str(text);
                bare.push_str(text);
                continue;
            }
            Piece::Place(path) => path,
        };
        let value = match look_up(path, given)? {
            Json::String(text) => text.clone(),
            other => other.to_string(),
        };
        let begins = filled.is_empty() && value.starts_with(['/', '~']);
        filled.push_str(&value);
        match is_chosen(path, given, own) {
            true if begins || value.contains(odd) => return Err(elsewhere(path)),
            true => bare.push('x'),
            false => bare.push_str(&value),
        }
    }
    // Two that are harmless alone may not be together.
    if up(&filled) > up(&bare) { Err(elsewhere(text)) } else { Ok(()) }
}

fn elsewhere(path: &str) -> Error {
    let m = format!(
        "`{path}` is part of a file's name, and leads elsewhere: it may have no `..`, no `*?[]{{}}`, and not begin with `/` or `~`"
    );
    Error::new(Code::InvalidRequest, m).param("params")
}

/// Whether what stands at a place was chosen by who started the run, and not by who wrote the configuration.
fn is_chosen(path: &str, given: &Map<String, Json>, own: &Map<String, Json>) -> bool {
    let (root, name) = path.split_once('.').unwrap_or((path, ""));
    let top = name.split('.').next().unwrap_or_default().trim();
    match root {
        "params" => given.get("params").and_then(|p| p.get(top)) != own.get(top),
        "partition" => true,
        _ => false,
    }
}

/// Whether neither a shell nor SQL reads more in it than a word.
fn is_plain(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => true,
        Json::String(text) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_.,:/@%+=-".contains(c);
            // `--` begins a comment in SQL, and another option in most commands.
            text.chars().all(plain) && !text.contains("--")
        }
        Json::Array(_) | Json::Object(_) => false,
    }
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

    #[test]
    fn what_a_caller_chose_is_no_code() {
        let own = json!({"month": 3, "name": "$(own)"}).as_object().cloned().unwrap();
        let check = |name: &str| {
            let mut given = given();
            given["params"]["name"] = json!(name);
            check_code("run --name {{ params.name }} > x", &given, &own)
        };
        for plain in ["", "2013-02", "a/b_c.csv", "1e-3", "$(own)"] {
            check(plain).unwrap_or_else(|e| panic!("{plain}: {e}"));
        }
        for code in ["a;b", "$(x)", "`x`", "a b", "'", "\"", "a\nb", "|", "1--", "*", "(", "é"] {
            let e = check(code).expect_err(code);
            assert!(e.message.contains("`params.name`"), "{e}");
        }
        // What the configuration has is its author's, and a part of a stretch of time is a date.
        check_code("{{ partition.start }} {{ params.month }}", &given(), &own).unwrap();
        assert!(check_code("{{ params.list }}", &given(), &own).is_err());
        let mut given = given();
        given["partition"]["start"] = json!("$(x)");
        assert!(check_code("{{ partition.start }}", &given, &own).is_err());
    }

    #[test]
    fn what_a_caller_chose_leads_to_no_other_file() {
        let own = json!({"month": 3, "name": "/srv/own"}).as_object().cloned().unwrap();
        let check = |text: &str, name: &str| {
            let mut given = given();
            given["params"]["name"] = json!(name);
            check_path(text, &given, &own)
        };
        for inside in ["2013-02", "a/b c.csv", "..a", "é", "/srv/own"] {
            check("raw/{{ params.name }}.csv", inside).unwrap_or_else(|e| panic!("{inside}: {e}"));
        }
        check("{{ params.name }}", "/srv/own").unwrap();
        for outside in ["../x", "a/../../x", "*", "a[b]", "x\0", "\\..\\x"] {
            check("raw/{{ params.name }}.csv", outside).expect_err(outside);
        }
        for absolute in ["/etc/passwd", "~/x"] {
            check("{{ params.name }}", absolute).expect_err(absolute);
        }
        assert!(check("raw/{{ params.name }}/x", "..").is_err());
        // A list of names, each of which is one.
        let list = |names: Json| {
            let mut given = given();
            given["params"]["list"] = names;
            check_path("{{ params.list }}", &given, &own)
        };
        list(json!(["raw/a.csv", "b c.csv"])).unwrap();
        for outside in ["../x", "/etc/passwd", "~/x", "raw/*.csv", "a/../../x"] {
            list(json!(["raw/a.csv", outside])).expect_err(outside);
        }
        // Two that are harmless alone.
        assert!(check("raw/{{ params.name }}{{ params.name }}/x", ".").is_err());
    }

    #[test]
    fn what_a_caller_chose_is_no_template() {
        let (own, fields) = (Map::new(), [TextField::plain("message"), TextField::quoted("body")]);
        let filled = |config: Json, name: &str| {
            let mut given = given();
            given["params"]["name"] = json!(name);
            fill_stage(&config, (&given, &own), &fields)
        };
        let message =
            filled(json!({"message": "for {{ params.name }}: {{ inputs.x }}"}), "{{ inputs.secret }}\"");
        let message = message.unwrap()["message"].as_str().unwrap().to_owned();
        assert_eq!(message, r#"for {{ "\u007b\u007b inputs.secret \u007d\u007d\"" }}: {{ inputs.x }}"#);
        let env = minijinja::Environment::new();
        let rendered =
            env.render_str(&message, minijinja::context! { inputs => minijinja::context! { x => 1 } });
        assert_eq!(rendered.unwrap(), "for {{ inputs.secret }}\": 1");
        let body = json!({"body": "{\"a\":\"{{ params.name }}\"}"});
        assert!(filled(body.clone(), "x\",\"admin\":\"1").is_err());
        assert!(filled(body, "x").unwrap()["body"].as_str().unwrap().contains("{{ \"x\" }}"));
        let body = json!({"body": "{\"a\":{{ params.name | tojson }}}"});
        let body = filled(body, "x\",\"admin").unwrap()["body"].as_str().unwrap().to_owned();
        let sent: Json = serde_json::from_str(&env.render_str(&body, ()).unwrap()).unwrap();
        assert_eq!(sent, json!({"a": "x\",\"admin"}));
        // JSON that is no text keeps its form.
        let body =
            filled(json!({"body": {"a": "{{ params.name }}", "n": "{{ params.month }}"}}), "{{ x }}\"")
                .unwrap();
        assert_eq!(body["body"], json!({"a": "{{ x }}\"", "n": 3}));
    }

    proptest! {
        #[test]
        fn any_text_without_places_is_left_as_it_is(text in "[^p{}]{0,20}[{} ]{0,6}[^p{}]{0,9}") {
            prop_assert_eq!(fill(&json!(text.clone()), &given()).unwrap(), json!(text));
        }
    }
}

//! Tools and the choice among them, in chat's words. Functions only: what OpenAI runs itself is not here.

use contract::Error;
use serde_json::{Map, Value as Json, json};

use super::super::{Body, invalid};

/// What a chat model is told of tools.
pub(super) struct Tools {
    pub(super) all: Option<Json>,
    pub(super) choice: Option<Json>,
}

/// Takes `tools`, `tool_choice` and `parallel_tool_calls` out of a body.
pub(super) fn read(
    body: &mut Body<'_>,
    extra: &mut Map<String, Json>,
    echo: &mut Map<String, Json>,
) -> Result<Tools, Error> {
    let said = match body.take("tools") {
        None => Vec::new(),
        Some(Json::Array(all)) => all,
        Some(_) => return Err(invalid("tools", "`tools` must be an array")),
    };
    let mut all = said.iter().enumerate().map(|(i, t)| tool(t, i)).collect::<Result<Vec<Json>, Error>>()?;
    echo.insert("tools".into(), said.into());
    let said = body.take("tool_choice");
    let choice = said.as_ref().map(|c| choice(c, &mut all)).transpose()?;
    echo.insert("tool_choice".into(), said.unwrap_or_else(|| "auto".into()));
    let parallel = match body.take("parallel_tool_calls") {
        None => None,
        Some(Json::Bool(b)) => Some(b),
        Some(_) => {
            return Err(invalid("parallel_tool_calls", "`parallel_tool_calls` must be true or false"));
        }
    };
    echo.insert("parallel_tool_calls".into(), parallel.unwrap_or(true).into());
    // Upstreams refuse a choice without tools, which says nothing when it asks for none.
    if all.is_empty() {
        return match choice {
            Some(Json::String(c)) if c != "required" => Ok(Tools { all: None, choice: None }),
            None => Ok(Tools { all: None, choice: None }),
            Some(_) => Err(invalid("tool_choice", "`tool_choice` asks for a tool, and `tools` has none")),
        };
    }
    if let Some(parallel) = parallel {
        extra.insert("parallel_tool_calls".into(), parallel.into());
    }
    Ok(Tools { all: Some(all.into()), choice })
}

fn tool(said: &Json, i: usize) -> Result<Json, Error> {
    let at = format!("tools[{i}]");
    match said.get("type").and_then(Json::as_str) {
        Some("function") => {}
        Some(_) => {
            let m = format!("`{at}` must have the type function: tools that OpenAI runs itself are not here");
            return Err(invalid(&at, m));
        }
        None => return Err(invalid(&at, format!("`{at}` must be an object with a `type`"))),
    }
    let mut function = Map::new();
    for name in ["name", "description", "parameters", "strict"] {
        if let Some(v) = said.get(name).filter(|v| !v.is_null()) {
            function.insert(name.into(), v.clone());
        }
    }
    if function.get("name").and_then(Json::as_str).is_none_or(str::is_empty) {
        return Err(invalid(&format!("{at}.name"), format!("`{at}.name` must be a string")));
    }
    Ok(json!({"type": "function", "function": function}))
}

fn name_of(tool: &Json) -> Option<&str> {
    tool.pointer("/function/name").and_then(Json::as_str)
}

/// The choice. Where it allows some of the tools, the others go: the model sees those that it may call.
fn choice(said: &Json, all: &mut Vec<Json>) -> Result<Json, Error> {
    let bad = || {
        let m = "`tool_choice` must be auto, none, required, a function by its name, or allowed_tools";
        invalid("tool_choice", m)
    };
    if let Some(word) = said.as_str() {
        return if matches!(word, "auto" | "none" | "required") { Ok(word.into()) } else { Err(bad()) };
    }
    match said.get("type").and_then(Json::as_str) {
        Some("function") => {
            let name = said.get("name").and_then(Json::as_str).ok_or_else(bad)?;
            Ok(json!({"type": "function", "function": {"name": name}}))
        }
        Some("allowed_tools") => {
            let mode = said.get("mode").and_then(Json::as_str).unwrap_or("auto");
            let allowed = said.get("tools").and_then(Json::as_array).ok_or_else(bad)?;
            let names: Vec<&str> =
                allowed.iter().filter_map(|t| t.get("name").and_then(Json::as_str)).collect();
            if names.len() != allowed.len() || !matches!(mode, "auto" | "required") {
                return Err(bad());
            }
            all.retain(|t| name_of(t).is_some_and(|n| names.contains(&n)));
            Ok(mode.into())
        }
        _ => Err(bad()),
    }
}

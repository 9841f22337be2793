//! Input items as a conversation.
//!
//! An item is less than a turn of a chat: a model's words, its reasoning and each of its calls are items of their own.
//! Neighbours among them become one turn again, as providers want it: a call, then what it gave.

use contract::{Content, Error, Message, Part, Role, ToolCall};
use serde_json::{Map, Value as Json, json};

use super::super::{Body, invalid};

/// Reads `input`: a text of the user's, or items.
pub(super) fn read(input: Option<Json>, messages: &mut Vec<Message>) -> Result<(), Error> {
    let items = match input {
        Some(Json::String(text)) => {
            messages.push(Message::text(Role::User, text));
            return Ok(());
        }
        Some(Json::Array(items)) => items,
        _ => return Err(invalid("input", "`input` must be a string or an array of items")),
    };
    let (had, mut turns) = (messages.len(), Turns { messages, thinking: Vec::new() });
    for (i, item) in items.into_iter().enumerate() {
        let at = format!("input[{i}]");
        match item {
            Json::Object(map) => turns.item(map.into(), &at)?,
            _ => return Err(invalid(&at, format!("`{at}` must be an object"))),
        }
    }
    if turns.messages.len() == had {
        return Err(invalid("input", "`input` must hold at least one message"));
    }
    Ok(())
}

struct Turns<'a> {
    messages: &'a mut Vec<Message>,
    /// Sealed reasoning, for the model's turn that follows.
    thinking: Vec<Part>,
}

impl Turns<'_> {
    fn item(&mut self, mut item: Body<'_>, at: &str) -> Result<(), Error> {
        let kind = item.take("type");
        let kind = match (&kind, item.0.get("role").is_some()) {
            (None, true) => "message",
            (None, false) if item.0.get("id").is_some() => "item_reference",
            (Some(Json::String(kind)), _) => kind.as_str(),
            _ => return Err(bad(at, "type", "must be a string")),
        };
        match kind {
            "message" => self.message(item, at),
            "function_call" => self.call(item, at),
            "function_call_output" => self.output(item, at),
            "reasoning" => self.reasoning(&item, at),
            "item_reference" => {
                Err(invalid(at, format!("`{at}` refers to an item, and none is stored here: send it whole")))
            }
            _ => {
                let m = "must be a message, function_call, function_call_output or reasoning: \
                    tools that OpenAI runs itself are not here";
                Err(bad(at, "type", m))
            }
        }
    }

    fn message(&mut self, mut item: Body<'_>, at: &str) -> Result<(), Error> {
        let role = match item.take("role").as_ref().and_then(Json::as_str) {
            Some("user") => Role::User,
            Some("assistant") => Role::Assistant,
            Some("system" | "developer") => Role::System,
            _ => return Err(bad(at, "role", "must be one of user, assistant, system, developer")),
        };
        let content = content(item.take("content"), &format!("{at}.content"))?;
        if role == Role::Assistant {
            self.said(content);
        } else {
            self.messages.push(Message { content, ..Message::text(role, "") });
        }
        Ok(())
    }

    /// What the model said. After calls that nothing was given for yet, it belongs to their turn.
    fn said(&mut self, content: Content) {
        let thinking = std::mem::take(&mut self.thinking);
        match self.messages.last_mut() {
            Some(last) if last.role == Role::Assistant && !last.tool_calls.is_empty() => {
                let mut all = parts(std::mem::replace(&mut last.content, Content::Text(String::new())));
                all.extend(thinking.into_iter().chain(parts(content)));
                last.content = joined(all);
            }
            _ => {
                let content = match thinking.is_empty() {
                    true => content,
                    false => joined(thinking.into_iter().chain(parts(content)).collect()),
                };
                self.messages.push(Message { content, ..Message::text(Role::Assistant, "") });
            }
        }
    }

    fn call(&mut self, mut item: Body<'_>, at: &str) -> Result<(), Error> {
        let mut text = |name: &str| match item.take(name) {
            Some(Json::String(t)) => Ok(t),
            _ => Err(bad(at, name, "must be a string")),
        };
        let call = ToolCall { id: text("call_id")?, name: text("name")?, arguments: text("arguments")? };
        let open = self.messages.last().is_some_and(|m| m.role == Role::Assistant);
        if !open || !self.thinking.is_empty() {
            self.said(Content::Text(String::new()));
        }
        if let Some(last) = self.messages.last_mut() {
            last.tool_calls.push(call);
        }
        Ok(())
    }

    fn output(&mut self, mut item: Body<'_>, at: &str) -> Result<(), Error> {
        let Some(Json::String(id)) = item.take("call_id") else {
            return Err(bad(at, "call_id", "must be a string"));
        };
        let content = content(item.take("output"), &format!("{at}.output"))?;
        self.messages.push(Message { content, tool_call_id: Some(id), ..Message::text(Role::Tool, "") });
        Ok(())
    }

    /// Reasoning that its provider has sealed goes back to it; any other has been of use already.
    fn reasoning(&mut self, item: &Body<'_>, at: &str) -> Result<(), Error> {
        let Some(summary) = item.0.get("summary").and_then(Json::as_array) else {
            return Err(bad(at, "summary", "must be an array"));
        };
        if let Some(seal) = item.0.get("encrypted_content").and_then(Json::as_str) {
            let text: String = summary.iter().filter_map(|p| p.get("text").and_then(Json::as_str)).collect();
            let block = json!({"type": "thinking", "thinking": text, "signature": seal});
            self.thinking.push(Part::Other(block));
        }
        Ok(())
    }
}

fn bad(at: &str, field: &str, what: &str) -> Error {
    invalid(&format!("{at}.{field}"), format!("`{at}.{field}` {what}"))
}

/// The parts of a content that is not empty.
fn parts(content: Content) -> Vec<Part> {
    match content {
        Content::Text(t) if t.is_empty() => Vec::new(),
        Content::Text(t) => vec![Part::Text(t)],
        Content::Parts(parts) => parts,
    }
}

/// One text where it is no more than that: not every provider takes a list.
fn joined(mut parts: Vec<Part>) -> Content {
    match parts.pop() {
        None => Content::Text(String::new()),
        Some(Part::Text(t)) if parts.is_empty() => Content::Text(t),
        Some(last) => {
            parts.push(last);
            Content::Parts(parts)
        }
    }
}

fn content(said: Option<Json>, at: &str) -> Result<Content, Error> {
    match said {
        Some(Json::String(text)) => Ok(Content::Text(text)),
        Some(Json::Array(all)) => {
            let parts = all.into_iter().enumerate().map(|(i, p)| part(p, &format!("{at}[{i}]")));
            Ok(joined(parts.collect::<Result<_, _>>()?))
        }
        _ => Err(invalid(at, format!("`{at}` must be a string or an array of parts"))),
    }
}

/// A part in chat's words.
fn part(said: Json, at: &str) -> Result<Part, Error> {
    let Json::Object(map) = said else {
        return Err(invalid(at, format!("`{at}` must be an object")));
    };
    let mut p = Body::from(map);
    let kind = p.take("type");
    match kind.as_ref().and_then(Json::as_str) {
        Some("input_text" | "output_text" | "text") => text(&mut p, "text", at).map(Part::Text),
        Some("refusal") => text(&mut p, "refusal", at).map(Part::Text),
        Some("input_image") => {
            stored(&mut p, at)?;
            let mut image = Map::from_iter([("url".to_owned(), text(&mut p, "image_url", at)?.into())]);
            image.extend(p.take("detail").map(|d| ("detail".to_owned(), d)));
            Ok(Part::Other(json!({"type": "image_url", "image_url": image})))
        }
        Some("input_file") => {
            stored(&mut p, at)?;
            if p.take("file_url").is_some() {
                let m = "is not fetched here: send the file itself as `file_data`";
                return Err(bad(at, "file_url", m));
            }
            let mut file = Map::from_iter([("file_data".to_owned(), text(&mut p, "file_data", at)?.into())]);
            file.extend(p.take("filename").map(|n| ("filename".to_owned(), n)));
            Ok(Part::Other(json!({"type": "file", "file": file})))
        }
        Some("input_audio") => match p.take("input_audio") {
            Some(audio @ Json::Object(_)) => {
                Ok(Part::Other(json!({"type": "input_audio", "input_audio": audio})))
            }
            _ => Err(bad(at, "input_audio", "must be an object")),
        },
        _ => {
            let m = "must be input_text, output_text, refusal, input_image, input_file or input_audio";
            Err(bad(at, "type", m))
        }
    }
}

fn text(part: &mut Body<'_>, field: &str, at: &str) -> Result<String, Error> {
    match part.take(field) {
        Some(Json::String(t)) => Ok(t),
        _ => Err(bad(at, field, "must be a string")),
    }
}

fn stored(part: &mut Body<'_>, at: &str) -> Result<(), Error> {
    match part.take("file_id") {
        None => Ok(()),
        Some(_) => Err(bad(at, "file_id", "names a file, which a request cannot: send it in the part")),
    }
}

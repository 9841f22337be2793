//! What the fake reads of a request body, without copying it: both protocols in one borrowed structure.
//!
//! Unknown fields are ignored, as providers mostly do. Pure. Validation that both protocols share is here; the texts of
//! errors are in [`openai`](crate::openai) and [`anthropic`](crate::anthropic).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::tokens::count_words;

#[derive(Debug, Deserialize)]
pub(crate) struct ChatBody<'a> {
    #[serde(borrow, default)]
    pub(crate) model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) messages: Option<Vec<Message<'a>>>,
    #[serde(borrow, default)]
    system: Option<Content<'a>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<i64>,
    #[serde(default)]
    max_completion_tokens: Option<i64>,
    #[serde(borrow, default)]
    tools: Option<Vec<Tool<'a>>>,
    #[serde(default)]
    logprobs: Option<bool>,
    #[serde(borrow, default)]
    tool_choice: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow, default)]
    pub(crate) role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<Content<'a>>,
}

#[derive(Debug, Deserialize)]
struct Tool<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Debug, Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
}

impl ChatBody<'_> {
    pub(crate) fn streaming(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(crate) fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|o| o.include_usage).unwrap_or(false)
    }

    pub(crate) fn logprobs(&self) -> bool {
        self.logprobs.unwrap_or(false)
    }

    pub(crate) fn max_tokens(&self) -> Option<i64> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// Words in the system prompt and all messages.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        let messages = self.messages.iter().flatten().filter_map(|m| m.content.as_ref());
        self.system.iter().chain(messages).map(|content| content.words).sum()
    }

    /// The last text of the last message.
    pub(crate) fn last_text(&self) -> &str {
        let last = self.messages.iter().flatten().next_back().and_then(|m| m.content.as_ref());
        last.map(|content| &*content.last).unwrap_or_default()
    }

    /// Whether the conversation ends with the assistant's own words.
    pub(crate) fn prefilled(&self) -> bool {
        self.messages.iter().flatten().next_back().and_then(|m| m.role.as_deref()) == Some("assistant")
    }

    /// Whether the conversation ends with the result of a tool call, which wants an answer and not the same call again.
    fn answers_tool(&self) -> bool {
        let last = self.messages.iter().flatten().next_back();
        last.is_some_and(|m| {
            m.role.as_deref() == Some("tool") || m.content.as_ref().is_some_and(|c| c.tool_result)
        })
    }

    /// The name of the first tool, if a tool may be called and is not being answered.
    pub(crate) fn callable_tool(&self) -> Option<&str> {
        if self.answers_tool() {
            return None;
        }
        let forbidden = self.tool_choice.map(RawValue::get).is_some_and(|choice| {
            let none: Result<NoneChoice, _> = serde_json::from_str(choice);
            choice == "\"none\"" || none.is_ok_and(|choice| choice.kind == "none")
        });
        if forbidden {
            return None;
        }
        let tool = self.tools.as_deref()?.first()?;
        tool.function.as_ref().and_then(|f| f.name.as_deref()).or(tool.name.as_deref())
    }
}

#[derive(Deserialize)]
struct NoneChoice {
    #[serde(rename = "type")]
    kind: String,
}

/// The text of a message: a string, or a list of parts of which some have text (also nested, in tool results).
#[derive(Debug, Default)]
struct Content<'a> {
    words: u64,
    last: Cow<'a, str>,
    tool_result: bool,
}

impl<'a> Content<'a> {
    fn of(text: Cow<'a, str>) -> Self {
        Self { words: count_words(&text), last: text, tool_result: false }
    }

    fn add(&mut self, other: Self) {
        self.words += other.words;
        self.tool_result |= other.tool_result;
        if !other.last.is_empty() {
            self.last = other.last;
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an array of content parts")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Content::of(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Content::of(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Content::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let mut all = Content::default();
        while let Some(Part(content)) = parts.next_element()? {
            all.add(content);
        }
        Ok(all)
    }
}

struct Part<'a>(Content<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Part<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a content part")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut all = Content::default();
        while let Some(field) = fields.next_key::<Cow<'de, str>>()? {
            if field == "text" || field == "content" {
                if let Some(content) = fields.next_value::<Option<Content<'de>>>()? {
                    all.add(content);
                }
            } else if field == "type" {
                all.tool_result |= fields.next_value::<&RawValue>()?.get() == "\"tool_result\"";
            } else {
                fields.next_value::<serde::de::IgnoredAny>()?;
            }
        }
        Ok(Part(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> ChatBody<'_> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn words_are_counted_over_strings_parts_and_system() {
        let body = parse(
            r#"{"system":"be brief","messages":[{"role":"user","content":"one two"},
            {"role":"user","content":[{"type":"text","text":"three \"four\" five"},{"type":"image_url","image_url":{"url":"a b"}},
            {"type":"tool_result","content":[{"type":"text","text":"six"}]}]},{"role":"assistant","content":null}]}"#,
        );
        assert_eq!(body.prompt_tokens(), 8);
        assert_eq!(body.last_text(), "");
        assert!(body.prefilled());
    }

    #[test]
    fn the_last_text_is_that_of_the_last_message() {
        let body = parse(r#"{"messages":[{"content":"a"},{"role":"user","content":"b \u00e9"}]}"#);
        assert_eq!(body.last_text(), "b é");
        assert!(!body.prefilled());
    }

    #[test]
    fn tools_of_both_protocols_are_callable_unless_forbidden() {
        let openai = r#"{"tools":[{"type":"function","function":{"name":"f"}}]"#;
        let anthropic = r#"{"tools":[{"name":"g","input_schema":{}}]"#;
        assert_eq!(parse(&format!("{openai}}}")).callable_tool(), Some("f"));
        assert_eq!(parse(&format!("{anthropic}}}")).callable_tool(), Some("g"));
        assert_eq!(parse(&format!("{openai},\"tool_choice\":\"none\"}}")).callable_tool(), None);
        assert_eq!(
            parse(&format!("{anthropic},\"tool_choice\":{{\"type\":\"none\"}}}}")).callable_tool(),
            None
        );
        assert_eq!(parse(&format!("{openai},\"tool_choice\":\"auto\"}}")).callable_tool(), Some("f"));
    }

    #[test]
    fn a_tool_result_at_the_end_is_answered_and_not_called_again() {
        let openai = r#"{"tools":[{"function":{"name":"f"}}],"messages":[{"role":"user","content":"a"},
            {"role":"assistant","tool_calls":[]},{"role":"tool","tool_call_id":"1","content":"12 degrees"}]}"#;
        let anthropic = r#"{"tools":[{"name":"g"}],"messages":[{"role":"user","content":[
            {"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"12 degrees"}]}]}]}"#;
        for body in [parse(openai), parse(anthropic)] {
            assert_eq!((body.callable_tool(), body.last_text()), (None, "12 degrees"));
        }
    }

    #[test]
    fn a_body_of_wrong_types_is_a_data_error_and_depth_does_no_harm() {
        let wrong = serde_json::from_str::<ChatBody<'_>>(r#"{"messages":3}"#).unwrap_err();
        assert!(wrong.is_data());
        let deep = format!("{{\"messages\":[{{\"content\":{}", "[{\"content\":".repeat(100_000));
        assert!(serde_json::from_str::<ChatBody<'_>>(&deep).is_err());
    }
}

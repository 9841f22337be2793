//! A whole answer, put together from deltas: what a caller who does not stream is given.

use contract::{ToolCall, Usage};
use serde_json::Value as Json;

use crate::{Delta, FinishReason};

/// What a model said.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// The version that answered.
    pub version: Option<String>,
    /// The text.
    pub text: String,
    /// The reasoning, where shown.
    pub reasoning: String,
    /// The provider's seal on the reasoning.
    pub signature: String,
    /// Log probabilities, in OpenAI's form, where asked for.
    pub logprobs: Option<Box<Json>>,
    /// The calls it wants made.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended; `None` while it has not.
    pub finish: Option<FinishReason>,
    /// Tokens, once known.
    pub usage: Option<Usage>,
}

impl Answer {
    /// Adds the next delta.
    pub fn push(&mut self, delta: Delta) {
        match delta {
            Delta::Version(v) => self.version = Some(v),
            Delta::Text(t) if self.text.is_empty() => self.text = t,
            Delta::Text(t) => self.text.push_str(&t),
            Delta::Reasoning(t) => self.reasoning.push_str(&t),
            Delta::Signature(s) => self.signature.push_str(&s),
            Delta::Logprobs(more) => self.logprobs(more),
            Delta::ToolCall { index, id, name, arguments } => {
                let at = index.min(255) as usize;
                if self.tool_calls.len() <= at {
                    let empty = ToolCall { id: String::new(), name: String::new(), arguments: String::new() };
                    self.tool_calls.resize(at + 1, empty);
                }
                if let Some(call) = self.tool_calls.get_mut(at) {
                    if let Some(id) = id {
                        call.id = id;
                    }
                    if let Some(name) = name {
                        call.name = name;
                    }
                    call.arguments.push_str(&arguments);
                }
            }
            Delta::Reset => *self = Answer::default(),
            Delta::Finish(f) => self.finish = Some(f),
            Delta::Usage(u) => self.usage = Some(u),
        }
    }

    /// `{"content": […], "refusal": […]}`: the lists of all pieces one after the other.
    fn logprobs(&mut self, mut more: Box<Json>) {
        let Some(all) = &mut self.logprobs else {
            self.logprobs = Some(more);
            return;
        };
        for list in ["content", "refusal"] {
            let Some(Json::Array(next)) = more.get_mut(list).map(Json::take) else { continue };
            match all.get_mut(list) {
                Some(Json::Array(so_far)) => so_far.extend(next),
                _ => {
                    if let Some(map) = all.as_object_mut() {
                        map.insert(list.to_owned(), Json::Array(next));
                    }
                }
            }
        }
    }
}

//! What an answer is kept under: a hash of everything that decides it.
//!
//! Invariants: every field of a request that an upstream is told goes in, each with its kind and its length, so that no
//! two different requests are the same bytes; the order of an object's fields does not. What does not decide the answer
//! stays out: whether it is streamed, and names that an upstream only keeps statistics by.

use contract::{Content, Message, ModelName, Part, Role, TenantId, ToolCall, UserId};
use serde_json::{Map, Value as Json};

use super::shelf::Key;
use crate::{ChatRequest, ModelSettings};

/// Fields of a body that no answer depends on: who asks, and how a provider finds its own caches.
const ASIDE: [&str; 5] =
    ["user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"];

/// Whose answers and of what.
pub(super) struct Shelf<'a> {
    pub(super) tenant: &'a TenantId,
    /// The end user, where each has answers of its own.
    pub(super) user: Option<&'a UserId>,
    pub(super) model: &'a ModelName,
    pub(super) settings: &'a ModelSettings,
}

/// The key of the answer to `request`.
pub(super) fn of(shelf: &Shelf<'_>, request: &ChatRequest) -> Key {
    let Shelf { tenant, user, model, settings } = shelf;
    let mut h = Hash(blake3::Hasher::new_derive_key("forebay 2026 answer cache 1"));
    h.text(tenant.as_str());
    h.maybe(*user, |h, u| h.text(u.as_str()));
    h.text(model.as_str());
    h.text(&settings.identity);
    h.maybe(settings.version.as_deref(), Hash::text);
    // Both may cut an answer short.
    h.maybe(settings.max_output_tokens, Hash::number);
    h.maybe(settings.context_window, Hash::number);
    // Taken apart by name: a new field does not compile until somebody says whether it decides the answer.
    let ChatRequest {
        messages,
        max_output_tokens,
        temperature,
        top_p,
        stop,
        seed,
        tools,
        tool_choice,
        response_format,
        stream: _,
        continues,
        extra,
    } = request;
    h.list(messages, Hash::message);
    h.maybe(*max_output_tokens, Hash::number);
    h.maybe(*temperature, Hash::float);
    h.maybe(*top_p, Hash::float);
    h.list(stop, |h, s| h.text(s));
    h.maybe(*seed, |h, s| h.number(s.cast_unsigned()));
    for json in [tools, tool_choice, response_format] {
        h.maybe(json.as_ref(), Hash::json);
    }
    h.tag(u8::from(*continues));
    h.object(extra, &ASIDE);
    *h.0.finalize().as_bytes()
}

struct Hash(blake3::Hasher);

impl Hash {
    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn number(&mut self, n: u64) {
        self.0.update(&n.to_le_bytes());
    }

    fn float(&mut self, f: f64) {
        // Both zeros are one number.
        self.number(if f == 0.0 { 0 } else { f.to_bits() });
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    fn maybe<T>(&mut self, value: Option<T>, some: impl FnOnce(&mut Self, T)) {
        self.tag(u8::from(value.is_some()));
        if let Some(v) = value {
            some(self, v);
        }
    }

    fn list<'a, T: 'a>(&mut self, items: &'a [T], each: impl Fn(&mut Self, &'a T)) {
        self.number(items.len() as u64);
        for item in items {
            each(self, item);
        }
    }

    fn message(&mut self, message: &Message) {
        let Message { role, content, name, tool_calls, tool_call_id } = message;
        self.tag(match role {
            Role::System => 0,
            Role::User => 1,
            Role::Assistant => 2,
            Role::Tool => 3,
        });
        match content {
            Content::Text(t) => {
                self.tag(0);
                self.text(t);
            }
            Content::Parts(parts) => {
                self.tag(1);
                self.list(parts, |h, part| match part {
                    Part::Text(t) => {
                        h.tag(0);
                        h.text(t);
                    }
                    Part::Other(block) => {
                        h.tag(1);
                        h.json(block);
                    }
                });
            }
        }
        self.maybe(name.as_deref(), Hash::text);
        self.list(tool_calls, |h, ToolCall { id, name, arguments }| {
            h.text(id);
            h.text(name);
            h.text(arguments);
        });
        self.maybe(tool_call_id.as_deref(), Hash::text);
    }

    fn json(&mut self, json: &Json) {
        match json {
            Json::Null => self.tag(0),
            Json::Bool(b) => {
                self.tag(1);
                self.tag(u8::from(*b));
            }
            Json::Number(n) => {
                self.tag(2);
                self.text(&n.to_string());
            }
            Json::String(s) => {
                self.tag(3);
                self.text(s);
            }
            Json::Array(items) => {
                self.tag(4);
                self.list(items, Hash::json);
            }
            Json::Object(fields) => {
                self.tag(5);
                self.object(fields, &[]);
            }
        }
    }

    /// The fields of an object in the order of their names, without those of `aside`.
    fn object(&mut self, fields: &Map<String, Json>, aside: &[&str]) {
        let mut fields: Vec<_> = fields.iter().filter(|(name, _)| !aside.contains(&name.as_str())).collect();
        fields.sort_unstable_by_key(|(name, _)| *name);
        self.list(&fields, |h, (name, value)| {
            h.text(name);
            h.json(value);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use contract::BoxFuture;
    use proptest::prelude::*;
    use serde_json::json;

    struct Nobody;
    impl crate::ChatModel for Nobody {
        fn start<'a>(
            &'a self,
            _: &'a ChatRequest,
            _: &'a crate::Attempt,
        ) -> BoxFuture<'a, Result<crate::DeltaStream, contract::Error>> {
            Box::pin(std::future::pending())
        }
    }

    fn settings() -> ModelSettings {
        ModelSettings { identity: "i".into(), ..ModelSettings::new("e".into(), Arc::new(Nobody)) }
    }

    fn key(request: &ChatRequest) -> Key {
        let (tenant, model, settings) = ("t".into(), "m".into(), settings());
        of(&Shelf { tenant: &tenant, user: None, model: &model, settings: &settings }, request)
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i32>().prop_map(Json::from),
            "[a-c]{0,3}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let role = prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant), Just(Role::Tool)];
        let part = prop_oneof!["[a-c]{0,3}".prop_map(Part::Text), any_json().prop_map(Part::Other)];
        let content = prop_oneof![
            "[a-c]{0,3}".prop_map(Content::Text),
            prop::collection::vec(part, 0..3).prop_map(Content::Parts),
        ];
        let call =
            ("[a-b]?", "[a-b]?", "[a-b]?").prop_map(|(id, name, arguments)| ToolCall { id, name, arguments });
        let maybe = || prop::option::of("[a-b]{0,2}");
        (role, content, maybe(), prop::collection::vec(call, 0..3), maybe()).prop_map(
            |(role, content, name, tool_calls, tool_call_id)| Message {
                role,
                content,
                name,
                tool_calls,
                tool_call_id,
            },
        )
    }

    fn any_request() -> impl Strategy<Value = ChatRequest> {
        let float = || prop::option::of((0u8..4).prop_map(|n| f64::from(n) / 2.0));
        (
            prop::collection::vec(any_message(), 0..3),
            prop::option::of(0u64..3),
            float(),
            float(),
            prop::collection::vec("[a-b]{0,2}", 0..3),
            prop::option::of(-1i64..2),
            (
                prop::option::of(any_json()),
                prop::option::of(any_json()),
                prop::option::of(any_json()),
                any::<bool>(),
            ),
            prop::collection::btree_map("[a-c]", any_json(), 0..3),
        )
            .prop_map(
                |(
                    messages,
                    max,
                    temperature,
                    top_p,
                    stop,
                    seed,
                    (tools, tool_choice, format, continues),
                    extra,
                )| {
                    ChatRequest {
                        messages,
                        max_output_tokens: max,
                        temperature,
                        top_p,
                        stop,
                        seed,
                        tools,
                        tool_choice,
                        response_format: format,
                        stream: false,
                        continues,
                        extra: extra.into_iter().collect(),
                    }
                },
            )
    }

    /// Turns the order of the fields of every object around.
    fn turned(json: &Json) -> Json {
        match json {
            Json::Object(fields) => {
                Json::Object(fields.iter().rev().map(|(k, v)| (k.clone(), turned(v))).collect())
            }
            Json::Array(items) => items.iter().map(turned).collect(),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn requests_have_one_key_exactly_when_they_are_equal(a in any_request(), b in any_request()) {
            prop_assert_eq!(key(&a) == key(&b), a == b);
        }

        #[test]
        fn any_change_of_any_field_changes_the_key(a in any_request(), b in any_request(), which in 0usize..11) {
            let mut c = a.clone();
            match which {
                0 => c.messages = b.messages,
                1 => c.max_output_tokens = b.max_output_tokens,
                2 => c.temperature = b.temperature,
                3 => c.top_p = b.top_p,
                4 => c.stop = b.stop,
                5 => c.seed = b.seed,
                6 => c.tools = b.tools,
                7 => c.tool_choice = b.tool_choice,
                8 => c.response_format = b.response_format,
                9 => c.continues = b.continues,
                _ => c.extra = b.extra,
            }
            prop_assert_eq!(key(&a) == key(&c), a == c);
        }

        #[test]
        fn neither_the_order_of_fields_nor_a_stream_nor_a_name_changes_the_key(a in any_request(), user in "[a-z]{1,4}") {
            let mut b = a.clone();
            for json in [&mut b.tools, &mut b.tool_choice, &mut b.response_format].into_iter().flatten() {
                *json = turned(json);
            }
            b.extra = b.extra.iter().rev().map(|(k, v)| (k.clone(), turned(v))).collect();
            b.extra.insert("user".into(), user.clone().into());
            b.extra.insert("metadata".into(), json!({"session": user}));
            b.stream = !b.stream;
            prop_assert_eq!(key(&a), key(&b));
        }
    }

    #[test]
    fn tenants_users_models_and_what_stands_behind_them_have_keys_of_their_own() {
        let request = ChatRequest::default();
        let key = |tenant: &str, user: Option<&str>, model: &str, settings: &ModelSettings| {
            let (tenant, user, model) = (tenant.into(), user.map(UserId::from), model.into());
            of(&Shelf { tenant: &tenant, user: user.as_ref(), model: &model, settings }, &request)
        };
        let same = settings();
        let other = |change: fn(&mut ModelSettings)| {
            let mut s = settings();
            change(&mut s);
            s
        };
        let keys = [
            key("t", None, "m", &same),
            key("u", None, "m", &same),
            key("t", Some("a"), "m", &same),
            key("t", Some("b"), "m", &same),
            key("t", Some(""), "m", &same),
            key("t", None, "n", &same),
            key("t", None, "m", &other(|s| s.identity = "j".into())),
            key("t", None, "m", &other(|s| s.version = Some("2".into()))),
            key("t", None, "m", &other(|s| s.max_output_tokens = Some(9))),
            key("t", None, "m", &other(|s| s.context_window = Some(9))),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(keys[0], key("t", None, "m", &settings()));
    }
}

//! The members of a JSON object of a caller's, in the order in which they came.
//!
//! Objects of requests have a handful of members, and most of those are taken out by name, one by one: looking at all names
//! costs less than hashing one of them.
//!
//! Invariant: as in [`serde_json::Map`], of members of one name the last one counts, in the place of the first. No call takes
//! longer than one look at each member.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::{Map, Value as Json};

/// The members of an object.
#[derive(Debug, Default)]
pub(super) struct Fields<'a>(Vec<(Cow<'a, str>, Json)>);

impl<'a> Fields<'a> {
    /// Takes a member out, `null` or not.
    pub(super) fn remove(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().rposition(|(n, _)| n == name)?;
        let (_, value) = self.0.remove(at);
        if self.0.iter().take(at).any(|(n, _)| n == name) {
            self.0.retain(|(n, _)| n != name);
        }
        Some(value)
    }

    /// A member that stays.
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().rfind(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// What was not taken out.
    pub(super) fn rest(self) -> Map<String, Json> {
        self.0.into_iter().map(|(name, value)| (name.into_owned(), value)).collect()
    }
}

impl From<Map<String, Json>> for Fields<'_> {
    fn from(map: Map<String, Json>) -> Self {
        Fields(map.into_iter().map(|(name, value)| (Cow::Owned(name), value)).collect())
    }
}

/// A value of which only an object is taken apart.
#[derive(Debug)]
pub(super) enum Item<'a> {
    Object(Fields<'a>),
    Other,
}

/// The member `messages` of a conversation.
#[derive(Debug)]
pub(super) enum Messages<'a> {
    Array(Vec<Item<'a>>),
    Other,
}

/// A body that is a conversation: an object whose messages are taken apart too.
#[derive(Debug)]
pub(super) enum Conversation<'a> {
    Object(Fields<'a>, Messages<'a>),
    Other,
}

impl<'a, 'de: 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ItemVisitor)
    }
}

impl<'a, 'de: 'a> Deserialize<'de> for Messages<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(MessagesVisitor)
    }
}

impl<'a, 'de: 'a> Deserialize<'de> for Conversation<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ConversationVisitor)
    }
}

/// Values that are nothing but read to their end.
macro_rules! others {
    ($other:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON")
        }
    };
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item<'de>;

    others!(Item::Other);

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Item<'de>, A::Error> {
        Json::deserialize(SeqAccessDeserializer::new(seq)).map(|_| Item::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item<'de>, A::Error> {
        let mut fields = Vec::with_capacity(4);
        while let Some(name) = map.next_key_seed(Name)? {
            fields.push((name, map.next_value()?));
        }
        Ok(Item::Object(Fields(fields)))
    }
}

struct MessagesVisitor;

impl<'de> Visitor<'de> for MessagesVisitor {
    type Value = Messages<'de>;

    others!(Messages::Other);

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Messages<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Messages::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Messages<'de>, A::Error> {
        Json::deserialize(MapAccessDeserializer::new(map)).map(|_| Messages::Other)
    }
}

struct ConversationVisitor;

impl<'de> Visitor<'de> for ConversationVisitor {
    type Value = Conversation<'de>;

    others!(Conversation::Other);

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Conversation<'de>, A::Error> {
        Json::deserialize(SeqAccessDeserializer::new(seq)).map(|_| Conversation::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Conversation<'de>, A::Error> {
        let (mut fields, mut messages) = (Vec::with_capacity(8), Messages::Other);
        while let Some(name) = map.next_key_seed(Name)? {
            if name == "messages" {
                messages = map.next_value()?;
            } else {
                fields.push((name, map.next_value()?));
            }
        }
        Ok(Conversation::Object(Fields(fields), messages))
    }
}

/// A member's name: a part of the text, unless something in it is escaped.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Cow<'de, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// JSON of any form in which a few names come again and again, as text: members of one name stay side by side.
    fn text() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            Just("\"messages\""),
            Just("\"role\""),
            Just("\"content\""),
            Just("\"r\\u006fle\""),
            Just("\"\"")
        ];
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("-1".to_owned()),
            Just("1.5".to_owned()),
            Just("1e999".to_owned()),
            Just("\"a\\nb\"".to_owned()),
            Just("\"\\ud800\"".to_owned()),
            Just("x".to_owned()),
            any::<u64>().prop_map(|n| n.to_string()),
        ];
        leaf.prop_recursive(4, 24, 5, move |inner| {
            let member = (name.clone(), inner.clone()).prop_map(|(n, v)| format!("{n}:{v}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
                prop::collection::vec(member, 0..6).prop_map(|all| format!("{{ {} }}", all.join(" , "))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_conversation_is_read_as_any_json_is(text in text(), cut in 0usize..400) {
            let text = text.get(..cut).unwrap_or(&text);
            let wanted = serde_json::from_str::<Json>(text);
            let read = serde_json::from_str::<Conversation<'_>>(text);
            match (wanted, read) {
                (Err(a), Err(b)) => prop_assert_eq!((a.line(), a.column()), (b.line(), b.column())),
                (Ok(Json::Object(mut map)), Ok(Conversation::Object(fields, messages))) => {
                    match (map.shift_remove("messages"), messages) {
                        (Some(Json::Array(all)), Messages::Array(items)) => {
                            prop_assert_eq!(all.len(), items.len());
                            for (json, item) in all.into_iter().zip(items) {
                                match (json, item) {
                                    (Json::Object(m), Item::Object(f)) => same(m, f)?,
                                    (j, Item::Other) => prop_assert!(!j.is_object()),
                                    (j, _) => prop_assert!(false, "{j} is an object"),
                                }
                            }
                        }
                        (Some(Json::Array(_)), Messages::Other) => prop_assert!(false, "an array was lost"),
                        (_, Messages::Array(_)) => prop_assert!(false, "there is no array"),
                        (_, Messages::Other) => {}
                    }
                    same(map, fields)?;
                }
                (Ok(Json::Object(_)), _) | (_, Ok(Conversation::Object(..))) => prop_assert!(false, "{text}"),
                (a, b) => prop_assert_eq!(a.is_ok(), b.is_ok()),
            }
        }
    }

    /// The same is found, taken out and left over.
    fn same(mut map: Map<String, Json>, mut fields: Fields<'_>) -> Result<(), TestCaseError> {
        prop_assert_eq!(map.get("content"), fields.get("content"));
        prop_assert_eq!(map.shift_remove("role"), fields.remove("role"));
        prop_assert_eq!(fields.remove("role"), None);
        let (wanted, rest) = (Json::Object(map), Json::Object(fields.rest()));
        prop_assert_eq!(wanted.to_string(), rest.to_string());
        Ok(())
    }
}

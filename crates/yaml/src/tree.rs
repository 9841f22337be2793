//! The configuration as a tree in which every key and every value knows its place in the file.
//!
//! Invariants: a map holds no key twice (the first one written stays); depth and size are bounded by whoever builds
//! the tree, so that recursion over it is bounded too.

use serde_json::{Map, Number, Value as Json};

/// A place in the file: line and column count from one, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line, from one.
    pub line: usize,
    /// The column in characters, from one.
    pub column: usize,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it starts.
    pub at: Place,
    /// What it is.
    pub data: Data,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// Nothing was written.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other finite number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order it was written.
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key starts.
    pub key_at: Place,
    /// Its value.
    pub value: Node,
}

/// What a pointer leads to.
#[derive(Debug, Clone, Copy)]
pub struct Located<'a> {
    /// The value, or the nearest one above it that exists.
    pub node: &'a Node,
    /// The key it stands under, when it stands in a map.
    pub key_at: Option<Place>,
    /// Whether the whole pointer was followed.
    pub exact: bool,
}

impl Located<'_> {
    /// Where a person looks for it: at its key, or at the value when it has none.
    pub fn label(&self) -> Place {
        self.key_at.unwrap_or(self.node.at)
    }
}

impl Node {
    /// The value of a key, when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|e| &e.value)
    }

    /// The entry of a key, when this is a map that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.data {
            Data::Map(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// Follows a JSON pointer as far as it leads.
    pub fn locate(&self, pointer: &str) -> Located<'_> {
        let mut at = Located { node: self, key_at: None, exact: true };
        for segment in segments(pointer) {
            let next = match &at.node.data {
                Data::Map(_) => at.node.entry(&segment).map(|e| (&e.value, Some(e.key_at))),
                Data::List(items) => {
                    segment.parse::<usize>().ok().and_then(|i| items.get(i)).map(|n| (n, None))
                }
                _ => None,
            };
            match next {
                Some((node, key_at)) => at = Located { node, key_at, exact: true },
                None => return Located { exact: false, ..at },
            }
        }
        at
    }

    /// The same as JSON, without places.
    pub fn to_json(&self) -> Json {
        match &self.data {
            Data::Null => Json::Null,
            Data::Bool(b) => Json::Bool(*b),
            Data::Int(n) => Json::from(*n),
            Data::Float(x) => Number::from_f64(*x).map_or(Json::Null, Json::Number),
            Data::Text(t) => Json::String(t.clone()),
            Data::List(items) => items.iter().map(Node::to_json).collect(),
            Data::Map(entries) => Json::Object(
                entries.iter().map(|e| (e.key.clone(), e.value.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// How many nodes it is made of, and how many levels deep it is: `(1, 1)` for a scalar.
    pub fn size(&self) -> (usize, usize) {
        let children: Box<dyn Iterator<Item = &Node>> = match &self.data {
            Data::List(items) => Box::new(items.iter()),
            Data::Map(entries) => Box::new(entries.iter().map(|e| &e.value)),
            _ => return (1, 1),
        };
        let (nodes, depth) =
            children.map(Node::size).fold((0, 0), |(n, d), (cn, cd): (usize, usize)| (n + cn, d.max(cd)));
        (nodes + 1, depth + 1)
    }
}

/// The segments of a JSON pointer, unescaped.
pub fn segments(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~"))
}

/// `pointer` with one more segment, escaped.
pub fn join(pointer: &str, segment: &str) -> String {
    format!("{pointer}/{}", segment.replace('~', "~0").replace('/', "~1"))
}

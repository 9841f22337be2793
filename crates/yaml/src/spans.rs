//! YAML text → [`Node`] tree with places.
//!
//! Never recurses over the input and never expands more than [`MAX_NODES`] nodes however often an anchor is used, so
//! that a hostile file costs bounded memory. Reports every duplicate key; a syntax error ends the reading.

use std::collections::HashMap;

use saphyr::Scalar;
use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::placeholder;
use crate::problem::Problem;
use crate::tree::{Data, Entry, Node, Place, join};

/// The largest file, in bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// The deepest nesting.
pub const MAX_DEPTH: usize = 48;
/// The most nodes after anchors were expanded.
pub const MAX_NODES: usize = 50_000;

/// What was read: the tree unless the file could not be read to its end, and everything wrong with it.
#[derive(Debug)]
pub struct Parsed {
    /// The tree.
    pub root: Option<Node>,
    /// Syntax errors, duplicate keys, refused anchors.
    pub problems: Vec<Problem>,
}

/// Reads the text of a configuration file, in which `${…}` may stand anywhere.
pub fn parse(source: &str) -> Parsed {
    let empty = "run `forebay init` in an empty folder to see a configuration that works";
    if source.len() > MAX_BYTES {
        return too_long("move long texts such as prompts into files of their own");
    }
    match placeholder::mask(source) {
        Ok(masked) => read(source, &masked, placeholder::unmask, empty),
        Err(problem) => Parsed { root: None, problems: vec![problem] },
    }
}

/// Reads any other YAML as it is. `empty` is what to do about a file with nothing in it.
pub fn parse_plain(source: &str, empty: &str) -> Parsed {
    if source.len() > MAX_BYTES {
        return too_long("make it several files");
    }
    read(source, source, str::to_owned, empty)
}

fn too_long(remedy: &str) -> Parsed {
    let message = format!("the file is larger than {MAX_BYTES} bytes");
    Parsed { root: None, problems: vec![Problem::new(Place { line: 1, column: 1 }, "", message, remedy)] }
}

fn read(source: &str, masked: &str, unmask: fn(&str) -> String, empty: &str) -> Parsed {
    let start = Place { line: 1, column: 1 };
    let mut builder = Builder::new(unmask);
    for event in Parser::new_from_str(masked) {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(e) => Err(syntax(source, place(e.marker()), e.info())),
        };
        if let Err(problem) = step {
            builder.problems.push(problem);
            return Parsed { root: None, problems: builder.problems };
        }
    }
    if builder.root.as_ref().is_none_or(|n| n.data == Data::Null) {
        builder.root = None;
        builder.problems.push(Problem::new(start, "", "the file is empty", empty));
    }
    Parsed { root: builder.root, problems: builder.problems }
}

fn place(mark: &saphyr_parser::Marker) -> Place {
    Place { line: mark.line().max(1), column: mark.col() + 1 }
}

fn syntax(source: &str, at: Place, info: &str) -> Problem {
    let line = source.lines().nth(at.line - 1).unwrap_or_default();
    let before = source.lines().nth(at.line.saturating_sub(2)).unwrap_or_default();
    let tab = |l: &str| l.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t');
    let remedy = if tab(line) || tab(before) {
        "indent with spaces: YAML takes no tab as indentation"
    } else {
        "check the indentation, the brackets and the quotes on this line and the one before"
    };
    Problem::new(at, "", format!("this is not valid YAML: {info}"), remedy)
}

/// A collection that is still open.
struct Open {
    at: Place,
    anchor: usize,
    shape: Shape,
}

enum Shape {
    List(Vec<Node>),
    /// Entries with a flag for merge keys, and the key that waits for its value.
    Map(Vec<(Entry, bool)>, Option<Key>),
}

struct Key {
    text: String,
    at: Place,
    merge: bool,
    /// Not text: reported already, its value is read and forgotten.
    discard: bool,
}

struct Builder {
    unmask: fn(&str) -> String,
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, usize, usize)>,
    nodes: usize,
    documents: usize,
    problems: Vec<Problem>,
}

impl Builder {
    fn new(unmask: fn(&str) -> String) -> Builder {
        Builder {
            unmask,
            stack: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            nodes: 0,
            documents: 0,
            problems: Vec::new(),
        }
    }

    /// Takes one event; an error ends the reading.
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let at = place(&span.start);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    let remedy = "keep one document: remove the line `---` and what follows it";
                    return Err(Problem::new(at, "", "a second document begins here", remedy));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(&text, style, anchor, tag.as_deref(), at)?
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                self.open(Open { at, anchor, shape: Shape::List(Vec::new()) })?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                self.open(Open { at, anchor, shape: Shape::Map(Vec::new(), None) })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => self.alias(id, at)?,
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, at: Place) {
        if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema()) {
            let message = format!("the tag `{tag}` means nothing here");
            self.problems.push(Problem::new(at, self.path(), message, "remove the tag"));
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Place,
    ) -> Result<(), Problem> {
        self.refuse_tag(tag, at);
        let text = (self.unmask)(text);
        if let Some(Open { shape: Shape::Map(_, waiting @ None), .. }) = self.stack.last_mut() {
            let merge = style == ScalarStyle::Plain && text == "<<";
            *waiting = Some(Key { text, at, merge, discard: false });
            return Ok(());
        }
        let owned = tag.cloned().map(std::borrow::Cow::Owned);
        let data = match Scalar::parse_from_cow_and_metadata(text.as_str().into(), style, owned.as_ref()) {
            Some(Scalar::Null) => Data::Null,
            Some(Scalar::Boolean(b)) => Data::Bool(b),
            Some(Scalar::Integer(n)) => Data::Int(n),
            Some(Scalar::FloatingPoint(x)) if x.is_finite() => Data::Float(*x),
            Some(Scalar::FloatingPoint(_)) => {
                let message = format!("`{text}` is not a number that can be used");
                self.problems.push(Problem::new(at, self.path(), message, "write a finite number"));
                Data::Float(0.0)
            }
            Some(Scalar::String(_)) => Data::Text(text),
            None => {
                let message = format!("`{text}` does not fit its tag");
                self.problems.push(Problem::new(at, self.path(), message, "remove the tag"));
                Data::Text(text)
            }
        };
        self.done(Node { at, data }, anchor, 1)
    }

    fn open(&mut self, open: Open) -> Result<(), Problem> {
        if self.stack.len() >= MAX_DEPTH {
            let message = format!("this is nested more than {MAX_DEPTH} levels deep");
            return Err(Problem::new(open.at, "", message, "flatten it: no setting lies so deep"));
        }
        self.stack.push(open);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let (data, at) = match open.shape {
            Shape::List(items) => (Data::List(items), open.at),
            Shape::Map(entries, _) => {
                // A block map starts where its first key does.
                let at = entries.first().map_or(open.at, |(e, _)| open.at.min(e.key_at));
                (Data::Map(self.merged(entries)), at)
            }
        };
        self.done(Node { at, data }, open.anchor, 1)
    }

    /// Fills in what merge keys (`<<: *defaults`) bring: only what is not written beside them.
    fn merged(&mut self, entries: Vec<(Entry, bool)>) -> Vec<Entry> {
        let (merges, plain): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, merge)| *merge);
        let mut out: Vec<Entry> = plain.into_iter().map(|(e, _)| e).collect();
        for (entry, _) in merges {
            let sources = match entry.value.data {
                Data::List(items) => items,
                _ => vec![entry.value],
            };
            for source in sources {
                if let Data::Map(more) = source.data {
                    for e in more {
                        if !out.iter().any(|o| o.key == e.key) {
                            out.push(e);
                        }
                    }
                } else {
                    let message = "only a map can be merged with `<<`";
                    let remedy = "give it an anchored map, as in `<<: *defaults`";
                    self.problems.push(Problem::new(entry.key_at, self.path(), message, remedy));
                }
            }
        }
        out
    }

    fn alias(&mut self, id: usize, at: Place) -> Result<(), Problem> {
        let Some((node, nodes, depth)) = self.anchors.get(&id) else {
            return Err(Problem::new(at, self.path(), "this anchor refers to itself", "write the value out"));
        };
        let (nodes, depth) = (*nodes, *depth);
        if self.nodes + nodes > MAX_NODES || self.stack.len() + depth > MAX_DEPTH {
            return Err(too_large(at));
        }
        let node = node.clone();
        self.done(node, 0, nodes)
    }

    /// Hands a finished value to what it stands in. `nodes` is how many it adds.
    fn done(&mut self, node: Node, anchor: usize, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            return Err(too_large(node.at));
        }
        if anchor != 0 {
            let (nodes, depth) = node.size();
            self.nodes += nodes;
            self.anchors.insert(anchor, (node.clone(), nodes, depth));
        }
        let path = self.path();
        match self.stack.last_mut().map(|open| &mut open.shape) {
            None => self.root = Some(node),
            Some(Shape::List(items)) => items.push(node),
            Some(Shape::Map(entries, waiting)) => match waiting.take() {
                None => {
                    let remedy = "write a plain name before the colon";
                    self.problems.push(Problem::new(node.at, path, "a key must be text", remedy));
                    *waiting = Some(Key { text: String::new(), at: node.at, merge: false, discard: true });
                }
                Some(key) if key.discard => {}
                Some(key) => {
                    let first = entries.iter().find(|(e, merge)| e.key == key.text && !(*merge && key.merge));
                    if let Some((first, _)) = first {
                        let message =
                            format!("`{}` is given twice: first on line {}", key.text, first.key_at.line);
                        let remedy = "keep one of the two";
                        self.problems.push(Problem::new(key.at, path, message, remedy));
                    } else {
                        let entry = Entry { key: key.text, key_at: key.at, value: node };
                        entries.push((entry, key.merge));
                    }
                }
            },
        }
        Ok(())
    }

    /// JSON pointer to the value that is being read.
    fn path(&self) -> String {
        self.stack.iter().fold(String::new(), |path, open| match &open.shape {
            Shape::List(items) => join(&path, &items.len().to_string()),
            Shape::Map(_, Some(key)) => join(&path, &key.text),
            Shape::Map(_, None) => path,
        })
    }
}

fn too_large(at: Place) -> Problem {
    let message = format!("anchors and lists make this more than {MAX_NODES} values");
    Problem::new(at, "", message, "write fewer of them: an anchor within an anchor multiplies")
}

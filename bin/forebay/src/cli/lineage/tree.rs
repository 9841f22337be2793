//! A graph as a tree on the terminal: upstream, downstream. What was shown above is not shown again.

use std::collections::{HashMap, HashSet};

use contract::UnixMillis;
use serde_json::Value;

use super::super::storage::clean;
use super::super::time;

struct Tree<'a> {
    nodes: HashMap<u64, &'a Value>,
    /// The nodes beside each, with what is between: upstream and downstream.
    up: HashMap<u64, Vec<(u64, &'a Value)>>,
    down: HashMap<u64, Vec<(u64, &'a Value)>>,
    lines: Vec<String>,
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The tree of a graph.
pub(super) fn of(graph: &Value) -> String {
    let id = |v: &Value, name: &str| v.get(name).and_then(Value::as_u64);
    let nodes = list(graph, "nodes").iter().filter_map(|n| Some((id(n, "id")?, n))).collect();
    let (mut up, mut down): (HashMap<u64, Vec<_>>, HashMap<u64, Vec<_>>) = Default::default();
    for link in list(graph, "links") {
        let (Some(from), Some(to)) = (id(link, "from"), id(link, "to")) else { continue };
        up.entry(to).or_default().push((from, link));
        down.entry(from).or_default().push((to, link));
    }
    let mut tree = Tree { nodes, up, down, lines: Vec::new() };
    for root in list(graph, "roots").iter().filter_map(Value::as_u64) {
        let shown = tree.node(root, None);
        tree.lines.push(shown);
        for (word, upwards) in [("made of", true), ("used by", false)] {
            let beside = tree.beside(root, upwards);
            if beside.is_empty() {
                continue;
            }
            tree.lines.push(format!("  {word}"));
            tree.below(root, upwards, "  ", &mut HashSet::from([root]));
        }
    }
    tree.lines.join("\n")
}

impl Tree<'_> {
    fn beside(&self, node: u64, upwards: bool) -> Vec<(u64, String, Vec<String>)> {
        let of = if upwards { &self.up } else { &self.down };
        let one = |(other, link): &(u64, &Value)| {
            let via: Vec<&str> = list(link, "via").iter().filter_map(Value::as_str).collect();
            (*other, via.join(", "), columns(link))
        };
        of.get(&node).into_iter().flatten().map(one).collect()
    }

    fn below(&mut self, node: u64, upwards: bool, indent: &str, seen: &mut HashSet<u64>) {
        let beside = self.beside(node, upwards);
        let last = beside.len().saturating_sub(1);
        for (n, (other, via, columns)) in beside.into_iter().enumerate() {
            let (branch, further) = if n == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let again = !seen.insert(other);
            let goes_on = again && !self.beside(other, upwards).is_empty();
            let above = if goes_on { "  (above)" } else { "" };
            let shown = self.node(other, Some(via.as_str()).filter(|v| !v.is_empty()));
            self.lines.push(format!("{indent}{branch}{shown}{above}"));
            let below = format!("{indent}{further}");
            self.lines.extend(columns.into_iter().map(|line| format!("{below}  {line}")));
            if !again {
                self.below(other, upwards, &below, seen);
            }
        }
    }

    fn node(&self, id: u64, via: Option<&str>) -> String {
        let Some(node) = self.nodes.get(&id) else { return String::new() };
        let name = clean(text(node, "name"));
        let column = match text(node, "column") {
            "" => String::new(),
            column => format!(".{}", clean(column)),
        };
        let shown = match text(node, "type") {
            "job" => job(node, &name, &column),
            kind => {
                let version = text(node, "version");
                let number = node.get("number").and_then(Value::as_u64);
                let short: String = version.chars().take(12).collect();
                let state = match (number, short.as_str()) {
                    (Some(n), _) => format!("@{n}"),
                    (None, "") => String::new(),
                    (None, v) => format!("@{}", clean(v)),
                };
                let kind = if kind == "dataset" { String::new() } else { format!("{kind} ") };
                format!("{kind}{name}{state}{column}")
            }
        };
        match via {
            Some(via) => format!("{shown}  ({via})"),
            None => shown,
        }
    }
}

/// `flights.clean → .delay: sql, run_… 2026-11-22 11:00:00, commit 1a2b3c4 and changes`.
fn job(node: &Value, name: &str, column: &str) -> String {
    let mut about = vec![
        clean(text(node, "kind")),
        clean(text(node, "run")),
        clean(text(node, "who")),
        node.get("at").and_then(Value::as_i64).map(|at| time::show(UnixMillis(at))).unwrap_or_default(),
    ];
    if let Some(git) = node.get("git") {
        let commit: String = text(git, "commit").chars().take(8).collect();
        let dirty = if git.get("dirty").and_then(Value::as_bool) == Some(true) { " and changes" } else { "" };
        about.push(format!("commit {}{dirty}", clean(&commit)));
    }
    match text(node, "reused") {
        "" => {}
        run => about.push(format!("taken from {}", clean(run))),
    }
    match text(node, "state") {
        "" | "complete" => {}
        state => about.push(clean(state)),
    }
    about.retain(|t| !t.is_empty());
    let column = if column.is_empty() { String::new() } else { format!(" → {column}") };
    format!("[{name}{column}] {}", about.join(", "))
}

/// `delay ← raw.dep_delay (transformation), raw.carrier (filter)`, column by column.
fn columns(link: &Value) -> Vec<String> {
    let one = |column: &Value| {
        let from = |f: &Value| {
            let (name, column, via) = (text(f, "name"), text(f, "column"), text(f, "via"));
            let via = if via == "identity" { String::new() } else { format!(" ({})", clean(via)) };
            format!("{}.{}{via}", clean(name), clean(column))
        };
        let from: Vec<String> = list(column, "from").iter().map(from).collect();
        let from = if from.is_empty() { "nothing that is known".to_owned() } else { from.join(", ") };
        format!("{} ← {from}", clean(text(column, "name")))
    };
    list(link, "columns").iter().map(one).collect()
}

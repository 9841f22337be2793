//! A graph as JSON: the same by HTTP and by the command line.

use contract::lineage::Via;
use serde_json::{Map, Value as Json, json};

use super::graph::{Found, Graph, Job, JobId, Link, Node, NodeId, Wanted};

/// A graph. Nodes are numbered; a link goes from what is read to what is written.
pub fn graph(wanted: &Wanted, found: &Found, graph: &Graph) -> Json {
    let number = |id: &NodeId| graph.nodes.get_index_of(id);
    let nodes: Vec<Json> =
        graph.nodes.iter().enumerate().map(|(n, (id, known))| node(n, id, known)).collect();
    let links: Vec<Json> = graph
        .links
        .iter()
        .filter_map(|((from, to), of)| Some(link(number(from)?, number(to)?, of)))
        .collect();
    let began = match found {
        Found::Thing(NodeId::Thing { kind, .. }) => kind.as_str(),
        Found::Thing(NodeId::Job(_)) | Found::Job(_) => "job",
        Found::Run(_) => "run",
    };
    json!({
        "object": "lineage",
        "of": wanted.of,
        "kind": began,
        "depth": wanted.depth,
        "more": graph.cut,
        "roots": graph.roots.iter().filter_map(number).collect::<Vec<_>>(),
        "nodes": nodes,
        "links": links,
    })
}

fn set<T: Into<Json>>(of: &mut Map<String, Json>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        of.insert(name.to_owned(), value.into());
    }
}

fn node(number: usize, id: &NodeId, known: &Node) -> Json {
    let mut of = Map::new();
    of.insert("id".into(), number.into());
    match (id, known) {
        (NodeId::Thing { kind, name, state, column }, known) => {
            of.insert("type".into(), kind.as_str().into());
            of.insert("name".into(), name.clone().into());
            set(&mut of, "version", state.clone().filter(|s| !s.is_empty()));
            if let Node::Thing(number) = known {
                set(&mut of, "number", *number);
            }
            set(&mut of, "column", column.clone());
        }
        (NodeId::Job(JobId { job, column, .. }), known) => {
            of.insert("type".into(), "job".into());
            of.insert("name".into(), job.clone().into());
            set(&mut of, "column", column.clone());
            if let Node::Job(job) = known {
                about(&mut of, job);
            }
        }
    }
    Json::Object(of)
}

fn about(of: &mut Map<String, Json>, Job { run, at, told }: &Job) {
    let text = |t: &String| Some(t.clone()).filter(|t| !t.is_empty());
    set(of, "run", text(run));
    of.insert("at".into(), at.0.into());
    set(of, "kind", text(&told.kind));
    set(of, "pipeline", text(&told.pipeline));
    set(of, "stage", text(&told.stage));
    set(of, "attempt", told.attempt);
    set(of, "params", Some(told.params.clone()).filter(|p| !p.is_empty()).map(Json::Object));
    set(of, "partition", Some(told.partition.clone()).filter(|p| !p.is_null()));
    set(of, "git", told.git.as_ref().and_then(|g| serde_json::to_value(g).ok()));
    set(of, "definition", text(&told.definition));
    set(of, "content", text(&told.content));
    set(of, "forebay", text(&told.forebay));
    set(of, "began", told.began);
    set(of, "reused", told.reused.map(|r| r.to_string()));
    set(of, "who", told.who.clone());
    set(of, "producer", told.producer.clone());
    set(of, "state", told.state.clone());
    set(of, "parent", told.parent.clone());
    set(of, "left_out", Some(told.left_out).filter(|n| *n > 0));
}

fn link(from: usize, to: usize, of: &Link) -> Json {
    let mut link = Map::new();
    link.insert("from".into(), from.into());
    link.insert("to".into(), to.into());
    let via: Vec<&str> = of.via.iter().copied().map(Via::as_str).collect();
    set(&mut link, "via", Some(via).filter(|v| !v.is_empty()));
    if !of.columns.is_empty() {
        let source = |(id, column, via): &(NodeId, String, Via)| {
            let NodeId::Thing { kind, name, state, .. } = id else { return Json::Null };
            let mut of = Map::new();
            of.insert("type".into(), kind.as_str().into());
            of.insert("name".into(), name.clone().into());
            set(&mut of, "version", state.clone().filter(|s| !s.is_empty()));
            of.insert("column".into(), column.clone().into());
            of.insert("via".into(), via.as_str().into());
            Json::Object(of)
        };
        let columns: Vec<Json> = of
            .columns
            .iter()
            .map(|(name, from)| json!({"name": name, "from": from.iter().map(source).collect::<Vec<_>>()}))
            .collect();
        link.insert("columns".into(), columns.into());
    }
    Json::Object(link)
}

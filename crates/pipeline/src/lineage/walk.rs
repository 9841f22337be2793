//! The walk from a thing to what it was made of, and to what was made of it.
//!
//! ```text
//! thing ── facts that wrote it ── their inputs ── facts that wrote those ── …   up
//! thing ── facts that read it ── their outputs ── facts that read those ── …    down
//! ```
//!
//! A walk from a version, or from a run, is exact: each thing is in one state, each job is one run of it. A walk from a thing as
//! such takes all states together, and of each job its newest run. A walk from a column follows columns whose values are in the
//! result, and tells those that decide about it without going on behind them; where nobody knows the columns of a job it goes on
//! with all that the job read. Invariants: nothing is walked twice, so that circles end; what is found is bounded, and a walk that
//! was cut short says so.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use contract::lineage::{FromColumn, Lineage, Thing, ThingKind, Via};
use contract::{Code, Error, RunId, TenantId};
use indexmap::{IndexMap, IndexSet};
use store::{LineageFact, LineageQuery, LineageRole, LineageStore, LineageVersion};

use super::graph::{Columns, Direction, Found, Graph, Job, JobId, Node, NodeId, Wanted};
use super::told::{Told, state_of};

/// Facts that are taken of one look.
const FACTS: u32 = 200;
/// Nodes of a graph at most.
const NODES: usize = 2_000;
/// Facts of a run at most.
const OF_RUN: u32 = 2_000;
/// Names that are told to who asked for one that there is not.
const HINTS: u32 = 8;

/// Walks over the facts of a store.
#[derive(Clone)]
pub struct Walk {
    store: Arc<dyn LineageStore>,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Walk").finish_non_exhaustive()
    }
}

fn unavailable(e: store::Error) -> Error {
    Error::new(Code::StorageUnavailable, format!("what is known of lineage cannot be read: {e}"))
}

/// A thing of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    kind: ThingKind,
    name: String,
    version: Option<LineageVersion>,
    column: Option<String>,
}

impl Walk {
    /// Over those.
    pub fn over(store: Arc<dyn LineageStore>) -> Walk {
        Walk { store }
    }

    /// Walks.
    ///
    /// # Errors
    /// `not_found` for a thing that no fact names, `invalid_request` for a name of several, `storage_unavailable`.
    pub async fn walk(&self, wanted: &Wanted) -> Result<(Found, Graph), Error> {
        let tenant = wanted.tenant.as_ref();
        let of = wanted.of.trim();
        let mut walker = Walker { store: &*self.store, wanted, exact: false, graph: Graph::default() };
        if of.parse::<RunId>().is_ok() {
            let facts = self.store.of_run(tenant, of, None, OF_RUN).await.map_err(unavailable)?;
            if facts.is_empty() {
                return Err(Error::new(Code::NotFound, format!("nothing is known of what {of} made")));
            }
            walker.exact = true;
            walker.start_at_jobs(facts).await?;
            return Ok((Found::Run(of.to_owned()), walker.graph));
        }
        if let Some(named) = self.named(tenant, of).await? {
            walker.exact = named.version.is_some();
            let root = walker.start_at(named).await?;
            return Ok((Found::Thing(root), walker.graph));
        }
        let facts = self.store.of_job(tenant, of, 1).await.map_err(unavailable)?;
        if !facts.is_empty() {
            walker.exact = true;
            walker.start_at_jobs(facts).await?;
            return Ok((Found::Job(of.to_owned()), walker.graph));
        }
        // Another program's run.
        let facts = self.store.of_run(tenant, of, None, OF_RUN).await.map_err(unavailable)?;
        if !of.is_empty() && !facts.is_empty() {
            walker.exact = true;
            walker.start_at_jobs(facts).await?;
            return Ok((Found::Run(of.to_owned()), walker.graph));
        }
        Err(self.unknown(tenant, of).await)
    }

    async fn unknown(&self, tenant: Option<&TenantId>, of: &str) -> Error {
        let names = self.store.names(tenant, ThingKind::Dataset.as_str(), HINTS).await.unwrap_or_default();
        let there = match names.as_slice() {
            [] => {
                "nothing is known of any dataset yet: runs of pipelines and `forebay data add` tell of them"
                    .to_owned()
            }
            names => format!("there are the datasets {}", names.join(", ")),
        };
        Error::new(Code::NotFound, format!("nothing is known of `{of}`: {there}")).param("of")
    }

    /// What a text names: the whole of it first, then a version of a thing, then a column.
    async fn named(&self, tenant: Option<&TenantId>, text: &str) -> Result<Option<Named>, Error> {
        if let Some(found) = self.at(tenant, text).await? {
            return Ok(Some(found));
        }
        // The last dot first: names of datasets have dots, too.
        for (dot, _) in text.rmatch_indices('.').take(8) {
            let (name, column) = text.split_at(dot);
            let Some(column) = column.get(1..).filter(|c| !c.is_empty()) else { continue };
            if let Some(found) = self.at(tenant, name).await?
                && matches!(found.kind, ThingKind::Dataset | ThingKind::Foreign)
            {
                return Ok(Some(Named { column: Some(column.to_owned()), ..found }));
            }
        }
        Ok(None)
    }

    /// A thing, or a version of one.
    async fn at(&self, tenant: Option<&TenantId>, text: &str) -> Result<Option<Named>, Error> {
        if let Some((kind, name)) = self.kind_of(tenant, text).await? {
            // What was named is a version, and the thing is called otherwise.
            let (_, plain) = prefixed(text);
            let version = (name != plain).then(|| LineageVersion::Name(plain.to_owned()));
            return Ok(Some(Named { kind, name, version, column: None }));
        }
        let Some((name, version)) = text.rsplit_once('@') else { return Ok(None) };
        let Some((kind, found)) = self.kind_of(tenant, name).await? else { return Ok(None) };
        let version = match version.parse() {
            Ok(number) => LineageVersion::Number(number),
            Err(_) => LineageVersion::Name(version.to_owned()),
        };
        // What is behind a dot may be a column of a version.
        if matches!(&version, LineageVersion::Name(v) if v.contains('.')) {
            let mut there = false;
            for role in [LineageRole::Output, LineageRole::Input] {
                let (tenant, version) = (tenant.cloned(), Some(version.clone()));
                let kind = kind.as_str().to_owned();
                let query = LineageQuery { tenant, role, kind, name: found.clone(), version, limit: 1 };
                there |= !self.store.around(&query).await.map_err(unavailable)?.is_empty();
            }
            if !there {
                return Ok(None);
            }
        }
        Ok(Some(Named { kind, name: found, version: Some(version), column: None }))
    }

    async fn kind_of(
        &self,
        tenant: Option<&TenantId>,
        text: &str,
    ) -> Result<Option<(ThingKind, String)>, Error> {
        let (wanted, plain) = prefixed(text);
        let found = self.store.called(tenant, plain, 64).await.map_err(unavailable)?;
        let of = |(kind, name): (String, String)| Some((ThingKind::of(&kind)?, name));
        let mut found: Vec<(ThingKind, String)> =
            found.into_iter().filter_map(of).filter(|(kind, _)| wanted.is_none_or(|w| w == *kind)).collect();
        // What is called so goes before what has such a version, and datasets before all others.
        if found.iter().any(|(_, name)| name == plain) {
            found.retain(|(_, name)| name == plain);
        }
        if found.iter().any(|(kind, _)| *kind == ThingKind::Dataset) {
            found.retain(|(kind, _)| *kind == ThingKind::Dataset);
        }
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            several => {
                let at = |name: &str| if name == plain { String::new() } else { format!("@{plain}") };
                let all: Vec<String> = several
                    .iter()
                    .map(|(kind, name)| format!("{}:{name}{}", kind.as_str(), at(name)))
                    .collect();
                let m = format!("`{text}` is several things; name one of {}", all.join(", "));
                Err(Error::new(Code::InvalidRequest, m).param("of"))
            }
        }
    }
}

/// A kind before a name, as in `file:raw/a.csv`.
fn prefixed(text: &str) -> (Option<ThingKind>, &str) {
    match text.split_once(':') {
        Some((kind, rest)) if ThingKind::of(kind).is_some() => (ThingKind::of(kind), rest),
        _ => (None, text),
    }
}

/// A place of a walk: a thing, and how many jobs it is away.
struct Place {
    kind: ThingKind,
    name: String,
    state: Option<String>,
    column: Option<String>,
    away: u32,
}

impl Place {
    fn id(&self) -> NodeId {
        NodeId::Thing {
            kind: self.kind,
            name: self.name.clone(),
            state: self.state.clone(),
            column: self.column.clone(),
        }
    }

    fn is(&self, thing: &Thing) -> bool {
        self.kind == thing.kind
            && self.name == thing.name
            && self.state.as_deref().is_none_or(|state| state == state_of(thing))
    }
}

/// What a column of a job is to another: the thing, its column where that is known, what for, and whether the walk goes on there.
struct Beside<'a> {
    thing: &'a Thing,
    column: Option<String>,
    via: BTreeSet<Via>,
    goes_on: bool,
}

struct Walker<'a> {
    store: &'a dyn LineageStore,
    wanted: &'a Wanted,
    exact: bool,
    graph: Graph,
}

impl Walker<'_> {
    async fn start_at(&mut self, named: Named) -> Result<NodeId, Error> {
        let Named { kind, name, version, column } = named;
        let mut number = None;
        let state = match version {
            None => None,
            Some(version) => {
                // The state as facts have it: a number is beside it.
                let at = |t: &Thing| match &version {
                    LineageVersion::Name(name) => state_of(t) == name,
                    LineageVersion::Number(n) => t.number == Some(*n),
                };
                let mut found = None;
                for role in [LineageRole::Output, LineageRole::Input] {
                    let query = self.query(role, kind, &name, Some(version.clone()));
                    for fact in self.store.around(&query).await.map_err(unavailable)? {
                        let told = told(&fact);
                        let outputs = told.lineage.outputs.iter().map(|o| &o.thing);
                        let own = told.lineage.inputs.iter().chain(outputs);
                        found = found
                            .or(own.filter(|t| t.kind == kind && t.name == name).find(|t| at(t)).cloned());
                    }
                }
                let Some(thing) = found else {
                    let shown = match &version {
                        LineageVersion::Name(v) => v.clone(),
                        LineageVersion::Number(n) => n.to_string(),
                    };
                    let m = format!("nothing is known of version {shown} of `{name}`");
                    return Err(Error::new(Code::NotFound, m).param("of"));
                };
                number = thing.number;
                Some(state_of(&thing).to_owned())
            }
        };
        let root = Place { kind, name, state, column, away: 0 };
        let id = root.id();
        if let Some(column) = root.column.clone() {
            self.must_have(&root, &column).await?;
        }
        self.graph.nodes.insert(id.clone(), Node::Thing(number));
        self.graph.roots.push(id.clone());
        for up in self.ways() {
            let start = Place {
                column: root.column.clone(),
                name: root.name.clone(),
                state: root.state.clone(),
                ..root
            };
            self.go(up, VecDeque::from([start])).await?;
        }
        Ok(id)
    }

    /// Refuses a column that no fact tells of, where some tell of columns.
    async fn must_have(&self, place: &Place, column: &str) -> Result<(), Error> {
        let version = place.state.clone().map(LineageVersion::Name);
        let mut known: BTreeSet<String> = BTreeSet::new();
        for role in [LineageRole::Output, LineageRole::Input] {
            let query = self.query(role, place.kind, &place.name, version.clone());
            let facts = self.store.around(&query).await.map_err(unavailable)?;
            for job in self.jobs(facts).await?.values() {
                let lineage = &job.told.lineage;
                for output in &lineage.outputs {
                    if place.is(&output.thing) {
                        known.extend(output.columns.iter().map(|c| c.name.clone()));
                    }
                    let read = output.columns.iter().flat_map(|c| &c.from).chain(&output.rows);
                    let own = |f: &&FromColumn| lineage.inputs.get(f.input).is_some_and(|t| place.is(t));
                    known.extend(read.filter(own).map(|f| f.column.clone()));
                }
            }
        }
        if known.is_empty() || known.contains(column) {
            return Ok(());
        }
        let some: Vec<&str> = known.iter().take(40).map(String::as_str).collect();
        let m = format!(
            "`{}` has no column `{column}` that anything is known of: there are {}",
            place.name,
            some.join(", ")
        );
        Err(Error::new(Code::NotFound, m).param("of"))
    }

    async fn start_at_jobs(&mut self, facts: Vec<LineageFact>) -> Result<(), Error> {
        let jobs = self.jobs(facts).await?;
        let ways = self.ways();
        for (id, job) in &jobs {
            let id = NodeId::Job(id.clone());
            self.graph.nodes.insert(id.clone(), Node::Job(Box::new(job.clone())));
            self.graph.roots.push(id);
        }
        for up in ways {
            let mut next = VecDeque::new();
            for (id, job) in &jobs {
                let things: Vec<Beside<'_>> = match up {
                    true => job.told.lineage.inputs.iter().map(whole).collect(),
                    false => job.told.lineage.outputs.iter().map(|o| whole(&o.thing)).collect(),
                };
                for beside in things {
                    next.extend(self.link(id, job, &beside, up, 1));
                }
            }
            if self.wanted.depth > 1 {
                self.go(up, next).await?;
            }
        }
        Ok(())
    }

    fn ways(&self) -> Vec<bool> {
        match self.wanted.direction {
            Direction::Up => vec![true],
            Direction::Down => vec![false],
            Direction::Both => vec![true, false],
        }
    }

    fn query(
        &self,
        role: LineageRole,
        kind: ThingKind,
        name: &str,
        version: Option<LineageVersion>,
    ) -> LineageQuery {
        LineageQuery {
            tenant: self.wanted.tenant.clone(),
            role,
            kind: kind.as_str().to_owned(),
            name: name.to_owned(),
            version,
            limit: FACTS,
        }
    }

    /// From places on, breadth first.
    async fn go(&mut self, up: bool, mut todo: VecDeque<Place>) -> Result<(), Error> {
        let role = if up { LineageRole::Output } else { LineageRole::Input };
        let mut done: IndexSet<NodeId> = IndexSet::new();
        while let Some(place) = todo.pop_front() {
            if !done.insert(place.id()) {
                continue;
            }
            if place.away >= self.wanted.depth {
                self.graph.cut |= self.more(role, &place).await?;
                continue;
            }
            let query =
                self.query(role, place.kind, &place.name, place.state.clone().map(LineageVersion::Name));
            let facts = self.store.around(&query).await.map_err(unavailable)?;
            self.graph.cut |= facts.len() >= FACTS as usize;
            for (id, job) in self.jobs(facts).await? {
                if self.graph.nodes.len() >= NODES {
                    self.graph.cut = true;
                    return Ok(());
                }
                let found =
                    if up { behind(&job.told.lineage, &place) } else { ahead(&job.told.lineage, &place) };
                for (makes, from, all) in found {
                    let id = JobId { column: makes, ..id.clone() };
                    self.here(&id, &job, &place, from, up);
                    for beside in all {
                        todo.extend(self.link(&id, &job, &beside, up, place.away + 1));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether there is anything behind a place where the walk ends.
    async fn more(&self, role: LineageRole, place: &Place) -> Result<bool, Error> {
        let version = place.state.clone().map(LineageVersion::Name);
        let query = LineageQuery { limit: 1, ..self.query(role, place.kind, &place.name, version) };
        Ok(!self.store.around(&query).await.map_err(unavailable)?.is_empty())
    }

    /// Links a job with the place that it was found from.
    fn here(&mut self, id: &JobId, job: &Job, place: &Place, via: BTreeSet<Via>, up: bool) {
        let own = NodeId::Job(id.clone());
        self.graph.nodes.entry(own.clone()).or_insert_with(|| Node::Job(Box::new(job.clone())));
        let columns = if up { self.columns(&job.told.lineage, |t| place.is(t)) } else { Vec::new() };
        let between = if up { (own, place.id()) } else { (place.id(), own) };
        let link = self.graph.links.entry(between).or_default();
        link.via.extend(via);
        link.columns = columns;
    }

    /// Links a job with a thing at its other side, which is the next place when the walk goes on there.
    fn link(&mut self, id: &JobId, job: &Job, beside: &Beside<'_>, up: bool, away: u32) -> Option<Place> {
        let thing = beside.thing;
        let state = self.exact.then(|| state_of(thing).to_owned());
        let place =
            Place { kind: thing.kind, name: thing.name.clone(), state, column: beside.column.clone(), away };
        let node = place.id();
        let own = NodeId::Job(id.clone());
        let between = if up { (node.clone(), own) } else { (own, node.clone()) };
        let to_itself = self.graph.links.contains_key(&(between.1.clone(), between.0.clone()));
        // Taken together, a dataset that is appended to is made of itself.
        if to_itself && !self.exact {
            return None;
        }
        let number = thing.number.filter(|_| self.exact);
        self.graph.nodes.entry(node).or_insert(Node::Thing(number));
        let columns = if up { Vec::new() } else { self.columns(&job.told.lineage, |t| place.is(t)) };
        let link = self.graph.links.entry(between).or_default();
        link.via.extend(beside.via.iter().copied());
        if !columns.is_empty() {
            link.columns = columns;
        }
        beside.goes_on.then_some(place)
    }

    /// What the columns of an output are made of.
    fn columns(&self, lineage: &Lineage, of: impl Fn(&Thing) -> bool) -> Columns {
        if !self.wanted.columns {
            return Vec::new();
        }
        let from = |f: &FromColumn| {
            let thing = lineage.inputs.get(f.input)?;
            let state = self.exact.then(|| state_of(thing).to_owned());
            let id = NodeId::Thing { kind: thing.kind, name: thing.name.clone(), state, column: None };
            Some((id, f.column.clone(), f.via))
        };
        let outputs = lineage.outputs.iter().filter(|o| of(&o.thing));
        outputs
            .flat_map(|o| {
                o.columns.iter().map(|c| (c.name.clone(), c.from.iter().filter_map(from).collect()))
            })
            .collect()
    }

    /// The jobs of facts, the newest first, each with all that is known of what it did.
    async fn jobs(&self, facts: Vec<LineageFact>) -> Result<IndexMap<JobId, Job>, Error> {
        let mut jobs: IndexMap<JobId, Job> = IndexMap::new();
        for fact in facts {
            let mut own = told(&fact);
            let run = Some(fact.run.clone()).filter(|r| self.exact && !r.is_empty());
            let id = JobId { job: fact.job.clone(), run, column: None };
            if own.producer.is_some() && !fact.run.is_empty() && !jobs.contains_key(&id) {
                // Another program tells of a run piece by piece.
                let tenant = Some(&fact.tenant);
                let all = self.store.of_run(tenant, &fact.run, Some(&fact.job), FACTS).await;
                for piece in all.map_err(unavailable)?.iter().filter(|piece| piece.key != fact.key) {
                    let piece = told(piece);
                    own.lineage.add(piece.lineage);
                    // What ends a run is told once; what began it says less.
                    if matches!(own.state.as_deref(), Some("start" | "running" | "other") | None) {
                        own.state = piece.state.or(own.state);
                    }
                }
            }
            if let Some(before) = own.reused {
                // What was taken over was made of the same by another run, which knows more of it.
                let facts =
                    self.store.of_run(Some(&fact.tenant), &before.to_string(), Some(&fact.job), 1).await;
                if let Some(first) = facts.map_err(unavailable)?.first() {
                    own.lineage = told(first).lineage;
                }
            }
            match jobs.get_mut(&id) {
                None => drop(jobs.insert(id, Job { run: fact.run, at: fact.at, told: own })),
                Some(known) if known.run == fact.run && !fact.run.is_empty() => {
                    known.told.lineage.add(own.lineage)
                }
                Some(_) => {}
            }
        }
        Ok(jobs)
    }
}

fn told(fact: &LineageFact) -> Told {
    serde_json::from_str(&fact.body).unwrap_or_default()
}

fn whole(thing: &Thing) -> Beside<'_> {
    Beside { thing, column: None, via: BTreeSet::new(), goes_on: true }
}

/// What a job found: the column that it makes, what the place is to it, and what is at its other side.
type Steps<'a> = Vec<(Option<String>, BTreeSet<Via>, Vec<Beside<'a>>)>;

/// What a place was made of by a job that wrote it.
fn behind<'a>(lineage: &'a Lineage, place: &Place) -> Steps<'a> {
    let Some(column) = &place.column else {
        let all = lineage.inputs.iter().filter(|t| !same_thing(t, place)).map(whole).collect();
        return vec![(None, BTreeSet::new(), all)];
    };
    let mut steps = Steps::new();
    for output in lineage.outputs.iter().filter(|o| place.is(&o.thing)) {
        if output.columns.is_empty() {
            steps.push((Some(column.clone()), BTreeSet::new(), lineage.inputs.iter().map(whole).collect()));
            continue;
        }
        let Some(made) = output.columns.iter().find(|c| c.name == *column) else { continue };
        let mut all: IndexMap<(usize, &str), BTreeSet<Via>> = IndexMap::new();
        for f in made.from.iter().chain(&output.rows) {
            all.entry((f.input, &f.column)).or_default().insert(f.via);
        }
        let beside = |((input, name), via): ((usize, &str), BTreeSet<Via>)| {
            let thing = lineage.inputs.get(input).filter(|t| !same_thing(t, place))?;
            let goes_on = via.iter().any(|v| v.is_direct());
            Some(Beside { thing, column: Some(name.to_owned()), via, goes_on })
        };
        steps.push((Some(column.clone()), BTreeSet::new(), all.into_iter().filter_map(beside).collect()));
    }
    steps
}

/// Whether a thing is the place in another state: what was there before an append.
fn same_thing(thing: &Thing, place: &Place) -> bool {
    place.state.is_none() && thing.kind == place.kind && thing.name == place.name
}

/// What was made of a place by a job that read it.
fn ahead<'a>(lineage: &'a Lineage, place: &Place) -> Steps<'a> {
    let here = |input: usize| lineage.inputs.get(input).is_some_and(|t| place.is(t));
    let Some(column) = &place.column else {
        let others = lineage.outputs.iter().filter(|o| !same_thing(&o.thing, place));
        let others: Vec<Beside<'a>> = others.map(|o| whole(&o.thing)).collect();
        // Who only adds to it makes nothing else of it.
        let adds = others.is_empty() && !lineage.outputs.is_empty();
        return if adds { Steps::new() } else { vec![(None, BTreeSet::new(), others)] };
    };
    let mut steps = Steps::new();
    for output in lineage.outputs.iter().filter(|o| !same_thing(&o.thing, place)) {
        if output.columns.is_empty() {
            steps.push((None, BTreeSet::new(), vec![whole(&output.thing)]));
            continue;
        }
        for made in &output.columns {
            let via: BTreeSet<Via> =
                made.from.iter().filter(|f| here(f.input) && f.column == *column).map(|f| f.via).collect();
            if via.is_empty() {
                continue;
            }
            let goes_on = via.iter().any(|v| v.is_direct());
            let makes = Some(made.name.clone());
            let beside = Beside { column: makes.clone(), goes_on, ..whole(&output.thing) };
            steps.push((makes, via, vec![beside]));
        }
        let rows: BTreeSet<Via> =
            output.rows.iter().filter(|f| here(f.input) && f.column == *column).map(|f| f.via).collect();
        if !rows.is_empty() {
            let beside = Beside { goes_on: false, ..whole(&output.thing) };
            steps.push((None, rows, vec![beside]));
        }
    }
    steps
}

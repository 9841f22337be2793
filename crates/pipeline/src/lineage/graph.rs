//! What a walk over lineage is asked, and the graph that it finds: things and the runs of jobs between them.

use std::collections::BTreeSet;

use contract::lineage::{ThingKind, Via};
use contract::{TenantId, UnixMillis};
use indexmap::IndexMap;

use super::told::Told;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To what it was made of.
    Up,
    /// To what was made of it.
    Down,
    /// Both.
    Both,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The thing, as a person writes it: `flights`, `flights@3`, `flights.delay`, `run_…`, `PIPELINE.STAGE`, a hash, `file:raw/a.csv`.
    pub of: String,
    /// Which way.
    pub direction: Direction,
    /// How many jobs away.
    pub depth: u32,
    /// Whether each link tells its columns.
    pub columns: bool,
    /// Of this tenant alone.
    pub tenant: Option<TenantId>,
}

/// What a walk began at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A thing, or a column of it.
    Thing(NodeId),
    /// A run: all that it did.
    Run(String),
    /// A job: its newest run.
    Job(String),
}

/// What ran.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobId {
    /// Its name.
    pub job: String,
    /// The run; none where all runs are taken together.
    pub run: Option<String>,
    /// The column of its output that is made, in a walk of columns.
    pub column: Option<String>,
}

/// What tells a node from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeId {
    /// A thing.
    Thing {
        /// What sort.
        kind: ThingKind,
        /// Its name.
        name: String,
        /// Its state; none where all are taken together.
        state: Option<String>,
        /// The column that it is about.
        column: Option<String>,
    },
    /// A job.
    Job(JobId),
}

/// A run of a job, and all that is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The run; empty when it is of none.
    pub run: String,
    /// When it ended.
    pub at: UnixMillis,
    /// What it says of itself.
    pub told: Told,
}

/// A node of a graph.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A thing, with the number of its version.
    Thing(Option<u64>),
    /// A job.
    Job(Box<Job>),
}

/// What an output's column is made of: the thing, its column, and what for.
pub type Columns = Vec<(String, Vec<(NodeId, String, Via)>)>;

/// From a thing to the job that read it, or from a job to the thing that it wrote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Link {
    /// In a walk of columns: what the column is there for.
    pub via: BTreeSet<Via>,
    /// The columns of what was written, when they were asked for.
    pub columns: Columns,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// What it began at.
    pub roots: Vec<NodeId>,
    /// Everything.
    pub nodes: IndexMap<NodeId, Node>,
    /// What hangs together, from what is read to what is written.
    pub links: IndexMap<(NodeId, NodeId), Link>,
    /// Whether there is more.
    pub cut: bool,
}

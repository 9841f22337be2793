//! A checked pipeline: every name resolved, every kind met, no cycle. Only [`crate::check`] makes one.

use std::sync::Arc;
use std::time::Duration;

use contract::{Budget, FailureContract, Kind, Stage, StageName};

use crate::Shows;

/// A pipeline that can run.
#[derive(Debug)]
pub struct Graph {
    /// What it is given.
    pub input: Kind,
    /// What it answers.
    pub output: Kind,
    /// The limits of the whole.
    pub budget: Budget,
    /// The node whose output is the answer.
    pub result: usize,
    /// Its nodes, in the order they were written.
    pub nodes: Vec<Node>,
    /// Whether it is run by durable runs alone.
    pub durable: bool,
}

/// A stage in its place.
pub struct Node {
    /// Its name.
    pub name: StageName,
    /// The stage.
    pub stage: Arc<dyn Stage>,
    /// Input name → source.
    pub inputs: Vec<(String, Source)>,
    /// Runs once for each element of this source, which is given as the input of this name.
    pub each: Option<(String, Source)>,
    /// How many elements at a time.
    pub parallel: usize,
    /// What happens when it fails.
    pub on_failure: FailureContract,
    /// The node behind [`FailureContract::Fallback`].
    pub fallback: Option<usize>,
    /// What its output is to the caller.
    pub shows: Shows,
    /// Its own limits.
    pub budget: Budget,
    /// The node whose stream this one works on while it is made, with the name of that input.
    pub tail_of: Option<(usize, String)>,
    /// The node that works on this one's stream.
    pub tailed_by: Option<usize>,
    /// Runs only when a node that falls back on it fails.
    pub lazy: bool,
    /// Runs once for every combination of its values, each in a stage of its own.
    pub matrix: bool,
    /// Whether its output is taken from an earlier durable run that made it of the same.
    pub cached: bool,
    /// Runs for each element, and gives a table of what came of them.
    pub collects: bool,
    /// The nodes that it waits for without taking their output.
    pub after: Vec<usize>,
    /// What the explicit latency budgets behind it add up to: its own deadline leaves them this much.
    pub reserve: Duration,
}

impl Node {
    /// The nodes whose output it takes.
    pub fn sources(&self) -> impl Iterator<Item = usize> + '_ {
        self.inputs.iter().map(|(_, s)| *s).chain(self.each.iter().map(|(_, s)| *s)).filter_map(|s| match s {
            Source::Input => None,
            Source::Node(n) => Some(n),
        })
    }

    /// The kind of its whole output: a list when it runs for each, or for many values.
    pub fn output(&self) -> Kind {
        let one = if self.collects { Kind::Table } else { self.stage.signature().output.clone() };
        if (self.each.is_some() && !self.collects) || self.matrix { Kind::List(Box::new(one)) } else { one }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .field("inputs", &self.inputs)
            .field("each", &self.each)
            .field("on_failure", &self.on_failure)
            .finish_non_exhaustive()
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The pipeline's input.
    Input,
    /// The output of a node.
    Node(usize),
}

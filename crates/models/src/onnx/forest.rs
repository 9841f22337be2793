//! Trees of any library in one form, with what a prediction is, exactly.
//!
//! A row is a slice of numbers; a category is the number of its word, and whatever is not a word (a missing value, one that
//! was not seen in training) is −1. [`Forest::scores`] is the reference that the exported graph is held against.
//!
//! Invariant: children come after their parent, so every walk ends [test: a_tree_whose_children_point_back_is_refused].

use super::Error;

/// What a node asks of a row's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// `x <= t`.
    AtMost(f64),
    /// `x < t`.
    Below(f64),
    /// `x` is one of these, which are in order.
    OneOf(Vec<u32>),
}

/// Where a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// At a node of the same tree.
    Node(u32),
    /// Nowhere: this is the leaf.
    Leaf(u32),
}

/// One split.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Which value of the row is asked.
    pub feature: u32,
    /// The question.
    pub test: Test,
    /// Where "yes" leads.
    pub yes: Step,
    /// Where "no" leads.
    pub no: Step,
    /// Whether NaN counts as "yes".
    pub missing: bool,
}

/// A tree. Without nodes it is its first leaf.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tree {
    /// Which score its leaves add to.
    pub score: usize,
    /// Splits, the root first.
    pub nodes: Vec<Node>,
    /// What the leaves add.
    pub leaves: Vec<f64>,
}

impl Tree {
    /// Where a row ends.
    fn leaf(&self, value: impl Fn(u32) -> f64) -> f64 {
        let mut at = if self.nodes.is_empty() { Step::Leaf(0) } else { Step::Node(0) };
        loop {
            match at {
                Step::Leaf(i) => return self.leaves.get(i as usize).copied().unwrap_or(0.0),
                Step::Node(i) => {
                    let Some(node) = self.nodes.get(i as usize) else { return 0.0 };
                    at = if node.says_yes(value(node.feature)) { node.yes } else { node.no };
                }
            }
        }
    }

    /// Whether every step leads forward and into the tree.
    fn check(&self, format: &'static str, features: usize, scores: usize) -> Result<(), Error> {
        let bad = |what: &str| Err(Error::malformed(format, format!("a tree {what}")));
        if self.score >= scores || self.leaves.is_empty() {
            return bad("has no leaf or adds to a score that is not there");
        }
        for (i, node) in self.nodes.iter().enumerate() {
            if node.feature as usize >= features {
                return bad("asks for a feature that is not there");
            }
            for step in [node.yes, node.no] {
                let sound = match step {
                    Step::Leaf(leaf) => (leaf as usize) < self.leaves.len(),
                    Step::Node(next) => (next as usize) > i && (next as usize) < self.nodes.len(),
                };
                if !sound {
                    return bad("has a split that leads back or out of it");
                }
            }
        }
        Ok(())
    }
}

impl Node {
    fn says_yes(&self, x: f64) -> bool {
        if x.is_nan() {
            return self.missing;
        }
        match &self.test {
            Test::AtMost(t) => x <= *t,
            Test::Below(t) => x < *t,
            Test::OneOf(set) => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "only a whole number within bounds is looked up"
                )]
                let word = (x >= 0.0 && x <= f64::from(u32::MAX) && x.fract() == 0.0).then_some(x as u32);
                word.is_some_and(|word| set.binary_search(&word).is_ok())
            }
        }
    }
}

/// How scores become what is answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Link {
    /// As they are.
    Identity,
    /// `1 / (1 + exp(-scale * s))`: the probability of the second of two classes.
    Sigmoid {
        /// The slope.
        scale: f64,
    },
    /// `exp(s)`.
    Exp,
    /// Probabilities of as many classes as there are scores.
    Softmax,
    /// Each score on its own by the sigmoid; they need not add up to one.
    OneAgainstAll {
        /// The slope.
        scale: f64,
    },
}

/// A sum of trees.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// What the library calls its features.
    pub names: Vec<String>,
    /// What a row starts with, one for each score.
    pub base: Vec<f64>,
    /// The trees.
    pub trees: Vec<Tree>,
    /// What the scores mean.
    pub link: Link,
    /// Whether values are 32-bit before they are compared, as XGBoost has them.
    pub single: bool,
}

impl Forest {
    /// Whether every walk in it ends.
    pub(super) fn check(self, format: &'static str) -> Result<Forest, Error> {
        for tree in &self.trees {
            tree.check(format, self.names.len(), self.base.len())?;
        }
        Ok(self)
    }

    /// The scores of a row, before the link. `value` gives a feature's value.
    pub fn scores(&self, value: impl Fn(u32) -> f64) -> Vec<f64> {
        let mut scores = self.base.clone();
        for tree in &self.trees {
            if let Some(score) = scores.get_mut(tree.score) {
                *score += tree.leaf(&value);
            }
        }
        scores
    }

    /// What is answered for a row: a value, or a probability for each class.
    pub fn answer(&self, value: impl Fn(u32) -> f64) -> Vec<f64> {
        self.link.apply(&self.scores(value))
    }
}

impl Link {
    /// What scores mean.
    pub fn apply(self, scores: &[f64]) -> Vec<f64> {
        let sigmoid = |scale: f64, s: f64| 1.0 / (1.0 + (-scale * s).exp());
        match self {
            Link::Identity => scores.to_vec(),
            Link::Exp => scores.iter().map(|s| s.exp()).collect(),
            Link::Sigmoid { scale } => {
                scores.iter().flat_map(|s| [1.0 - sigmoid(scale, *s), sigmoid(scale, *s)]).collect()
            }
            Link::Softmax => {
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let parts: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let sum: f64 = parts.iter().sum();
                parts.iter().map(|p| p / sum).collect()
            }
            Link::OneAgainstAll { scale } => scores.iter().map(|s| sigmoid(scale, *s)).collect(),
        }
    }

    /// Whether it gives probabilities.
    pub fn is_classes(self) -> bool {
        !matches!(self, Link::Identity | Link::Exp)
    }
}

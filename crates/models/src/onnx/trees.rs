//! A forest as one `TreeEnsemble` node (ai.onnx.ml 5) over doubles.
//!
//! The older `TreeEnsembleClassifier` and `-Regressor` answer in 32 bits and know no sets; this node has both, so that a
//! category's split stays one node and ONNX Runtime adds what the library adds
//! [test: onnx_runtime_answered_what_lightgbm_did].

use super::forest::{Forest, Node, Step, Test, Tree};
use super::graph::{self, Builder, Edge, ML, long};
use super::proto::{Attribute, element};

/// How nodes ask, by the operator's numbers.
mod mode {
    pub(super) const AT_MOST: u8 = 0;
    pub(super) const BELOW: u8 = 1;
    pub(super) const ONE_OF: u8 = 6;
}

/// The columns of the operator's attributes.
#[derive(Default)]
struct Columns {
    features: Vec<i64>,
    modes: Vec<u8>,
    splits: Vec<f64>,
    yes: Vec<i64>,
    yes_is_leaf: Vec<i64>,
    no: Vec<i64>,
    no_is_leaf: Vec<i64>,
    missing: Vec<i64>,
    /// The sets one after another, each closed by NaN.
    sets: Vec<f64>,
    roots: Vec<i64>,
    leaves: Vec<f64>,
    scores: Vec<i64>,
}

impl Columns {
    fn tree(&mut self, tree: &Tree) {
        let (first, first_leaf) = (self.features.len(), self.leaves.len());
        self.roots.push(long(first));
        if tree.nodes.is_empty() {
            // The operator has no tree without a split: both answers lead to the one leaf.
            let leaf = Step::Leaf(0);
            let node = Node { feature: 0, test: Test::AtMost(0.0), yes: leaf, no: leaf, missing: true };
            self.node(&node, first, first_leaf);
        }
        for node in &tree.nodes {
            self.node(node, first, first_leaf);
        }
        self.leaves.extend(&tree.leaves);
        self.scores.extend(tree.leaves.iter().map(|_| long(tree.score)));
    }

    fn node(&mut self, node: &Node, first: usize, first_leaf: usize) {
        self.features.push(node.feature.into());
        self.missing.push(node.missing.into());
        let (mode, split) = match &node.test {
            Test::AtMost(t) => (mode::AT_MOST, *t),
            Test::Below(t) => (mode::BELOW, *t),
            Test::OneOf(set) => {
                self.sets.extend(set.iter().map(|word| f64::from(*word)));
                self.sets.push(f64::NAN);
                (mode::ONE_OF, 0.0)
            }
        };
        self.modes.push(mode);
        self.splits.push(split);
        let place = |step: Step| match step {
            Step::Leaf(i) => (1, long(first_leaf) + i64::from(i)),
            Step::Node(i) => (0, long(first) + i64::from(i)),
        };
        let ((yes_is_leaf, yes), (no_is_leaf, no)) = (place(node.yes), place(node.no));
        self.yes_is_leaf.push(yes_is_leaf);
        self.yes.push(yes);
        self.no_is_leaf.push(no_is_leaf);
        self.no.push(no);
    }

    fn attributes(self, scores: usize) -> Vec<Attribute> {
        let row = |values: &[f64]| graph::doubles(&[values.len()], values);
        let mut all = vec![
            graph::int("aggregate_function", 1), // SUM
            graph::int("post_transform", 0),     // NONE
            graph::int("n_targets", long(scores)),
            graph::ints("tree_roots", self.roots),
            graph::ints("nodes_featureids", self.features),
            graph::tensor("nodes_modes", graph::bytes(self.modes)),
            graph::tensor("nodes_splits", row(&self.splits)),
            graph::ints("nodes_truenodeids", self.yes),
            graph::ints("nodes_trueleafs", self.yes_is_leaf),
            graph::ints("nodes_falsenodeids", self.no),
            graph::ints("nodes_falseleafs", self.no_is_leaf),
            graph::ints("nodes_missing_value_tracks_true", self.missing),
            graph::ints("leaf_targetids", self.scores),
            graph::tensor("leaf_weights", row(&self.leaves)),
        ];
        if !self.sets.is_empty() {
            all.push(graph::tensor("membership_values", row(&self.sets)));
        }
        all
    }
}

/// The scores of the rows of `matrix`, `rows × scores`, before the link.
pub(super) fn scores(builder: &mut Builder, matrix: &Edge, forest: &Forest) -> Edge {
    let matrix = if forest.single {
        let single = builder.cast(matrix, element::FLOAT);
        builder.cast(&single, element::DOUBLE)
    } else {
        matrix.clone()
    };
    let base = builder.constant(graph::doubles(&[1, forest.base.len()], &forest.base));
    let mut columns = Columns::default();
    for tree in &forest.trees {
        columns.tree(tree);
    }
    let sum = builder.of(ML, "TreeEnsemble", &[&matrix], columns.attributes(forest.base.len()));
    builder.node("Add", &[&sum, &base], Vec::new())
}

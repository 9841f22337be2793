//! Reads LightGBM's text models (version 3 and 4) into a [`Forest`].
//!
//! What decides is taken from LightGBM's `Tree::Decision`: a number goes left when it is at most the threshold, a category when
//! its bit is set. A missing number goes by the node's default where training saw missing ones, and counts as 0 where it did
//! not; a category that is missing, negative or unknown goes right. Categories are whole numbers: of others LightGBM cuts the
//! fraction off, the graph takes them for unknown.

use std::collections::BTreeMap;

use super::Error;
use super::forest::{Forest, Link, Node, Step, Test, Tree};

const FORMAT: &str = "LightGBM";

/// What such a model begins with.
pub(super) const MAGIC: &[u8] = b"tree\n";

/// Bits of `decision_type`.
mod decision {
    pub(super) const CATEGORY: u32 = 1;
    pub(super) const DEFAULT_LEFT: u32 = 2;
    pub(super) const MISSING: u32 = 3 << 2;
    pub(super) const MISSING_IS_ZERO: u32 = 1 << 2;
    pub(super) const MISSING_IS_NAN: u32 = 2 << 2;
}

/// Lines `key=value` up to the next empty one.
struct Section<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Section<'a> {
    fn of(text: &'a str) -> Section<'a> {
        Section(text.lines().map(|line| line.split_once('=').unwrap_or((line, ""))).collect())
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).copied().map(str::trim)
    }

    fn one<T: std::str::FromStr>(&self, key: &str) -> Result<T, Error> {
        let value = self.text(key).and_then(|text| text.parse().ok());
        value.ok_or_else(|| Error::malformed(FORMAT, format!("`{key}` is missing or no number")))
    }

    /// The numbers of a line, which are as many as `expected`.
    fn list<T: std::str::FromStr>(&self, key: &str, expected: usize) -> Result<Vec<T>, Error> {
        let values: Option<Vec<T>> =
            self.text(key).unwrap_or("").split_whitespace().map(|word| word.parse().ok()).collect();
        values.filter(|values| values.len() == expected).ok_or_else(|| {
            Error::malformed(FORMAT, format!("`{key}` is to have {expected} numbers and has not"))
        })
    }
}

fn unsupported(what: impl Into<String>, remedy: &'static str) -> Error {
    Error::Unsupported { format: FORMAT, what: what.into(), remedy }
}

/// The model in `text`.
///
/// # Errors
/// It is not whole, or it has what the graph cannot say: linear trees, `zero_as_missing` where it matters, a custom objective.
pub fn read(text: &str) -> Result<Forest, Error> {
    let text = text.replace("\r\n", "\n");
    let mut sections = text.split("\n\n").map(str::trim_start);
    let head = Section::of(sections.next().unwrap_or(""));
    if !head.0.contains_key("tree") {
        return Err(Error::malformed(FORMAT, "it does not begin with `tree`"));
    }
    let names: Vec<String> =
        head.text("feature_names").unwrap_or("").split_whitespace().map(str::to_owned).collect();
    let features: usize = head.one::<usize>("max_feature_idx")?.saturating_add(1);
    if names.len() != features {
        return Err(Error::malformed(
            FORMAT,
            format!("it has {features} features and {} names", names.len()),
        ));
    }
    let each: usize = head.one("num_tree_per_iteration")?;
    if each == 0 || each > 10_000 {
        return Err(Error::malformed(FORMAT, "`num_tree_per_iteration` is out of range"));
    }
    let mut trees = Vec::new();
    for section in sections.by_ref().take_while(|section| section.starts_with("Tree=")) {
        trees.push(tree(&Section::of(section), trees.len() % each)?);
    }
    if !text.contains("end of trees") {
        return Err(Error::malformed(FORMAT, "it ends before `end of trees`"));
    }
    if head.0.contains_key("average_output") {
        average(&mut trees, each);
    }
    let link = link(head.text("objective").unwrap_or(""), each)?;
    Forest { names, base: vec![0.0; each], trees, link, single: false }.check(FORMAT)
}

/// What LightGBM's objectives make of a score.
fn link(objective: &str, scores: usize) -> Result<Link, Error> {
    let mut words = objective.split_whitespace();
    let name = words.next().unwrap_or("");
    let rest: Vec<&str> = words.collect();
    let scale = || -> Result<f64, Error> {
        let given = rest.iter().find_map(|word| word.strip_prefix("sigmoid:"));
        given.map_or(Ok(1.0), |text| {
            text.parse().map_err(|_| Error::malformed(FORMAT, "`sigmoid` is no number"))
        })
    };
    match name {
        "regression" | "regression_l2" if rest.contains(&"sqrt") => {
            Err(unsupported("it was trained with `reg_sqrt`", "train it without"))
        }
        "regression" | "regression_l2" | "regression_l1" | "huber" | "fair" | "quantile" | "mape"
        | "lambdarank" | "rank_xendcg" => Ok(Link::Identity),
        "poisson" | "gamma" | "tweedie" => Ok(Link::Exp),
        "binary" => Ok(Link::Sigmoid { scale: scale()? }),
        "cross_entropy" => Ok(Link::Sigmoid { scale: 1.0 }),
        "multiclass" => Ok(Link::Softmax),
        "multiclassova" => Ok(Link::OneAgainstAll { scale: scale()? }),
        // A custom objective leaves none behind: its scores are all that is known.
        "" if scores == 1 => Ok(Link::Identity),
        other => Err(unsupported(
            format!("its objective is `{other}`"),
            "train it with an objective of LightGBM's own, or export it by its own tools",
        )),
    }
}

/// A random forest's answer is the mean.
fn average(trees: &mut [Tree], each: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a count of trees")]
    let rounds = (trees.len() / each).max(1) as f64;
    for leaf in trees.iter_mut().flat_map(|tree| &mut tree.leaves) {
        *leaf /= rounds;
    }
}

fn tree(section: &Section<'_>, score: usize) -> Result<Tree, Error> {
    let leaves: usize = section.one("num_leaves")?;
    if leaves == 0 || leaves > 1 << 24 {
        return Err(Error::malformed(FORMAT, "`num_leaves` is out of range"));
    }
    if section.text("is_linear").is_some_and(|text| text != "0") {
        return Err(unsupported("it has linear trees", "train it without `linear_tree`"));
    }
    let values = section.list("leaf_value", leaves)?;
    if leaves == 1 {
        return Ok(Tree { score, nodes: Vec::new(), leaves: values });
    }
    let splits = leaves - 1;
    let features: Vec<u32> = section.list("split_feature", splits)?;
    let thresholds: Vec<f64> = section.list("threshold", splits)?;
    let decisions: Vec<u32> = section.list("decision_type", splits)?;
    let left: Vec<i64> = section.list("left_child", splits)?;
    let right: Vec<i64> = section.list("right_child", splits)?;
    let sets = sets(section)?;
    let mut nodes = Vec::with_capacity(splits);
    for ((((feature, threshold), decision), left), right) in
        features.into_iter().zip(thresholds).zip(decisions).zip(left).zip(right)
    {
        let (test, missing) = question(decision, threshold, &sets)?;
        nodes.push(Node { feature, test, yes: step(left)?, no: step(right)?, missing });
    }
    Ok(Tree { score, nodes, leaves: values })
}

/// What a node asks, and whether a missing value goes left.
fn question(decision: u32, threshold: f64, sets: &[Vec<u32>]) -> Result<(Test, bool), Error> {
    if decision & decision::CATEGORY != 0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
        let at = (threshold >= 0.0 && threshold.fract() == 0.0).then_some(threshold as usize);
        let set = at.and_then(|at| sets.get(at));
        let set = set.ok_or_else(|| Error::malformed(FORMAT, "a split names a set that is not there"))?;
        return Ok((Test::OneOf(set.clone()), false));
    }
    let default_left = decision & decision::DEFAULT_LEFT != 0;
    let zero_left = 0.0 <= threshold;
    let missing = match decision & decision::MISSING {
        decision::MISSING_IS_NAN => default_left,
        // Zeros and missing values go the default way, which one question can say only where zeros go there anyway.
        decision::MISSING_IS_ZERO if default_left != zero_left => {
            return Err(unsupported("it was trained with `zero_as_missing`", "train it without"));
        }
        _ => zero_left,
    };
    Ok((Test::AtMost(threshold), missing))
}

fn step(child: i64) -> Result<Step, Error> {
    let (make, number): (fn(u32) -> Step, i64) =
        if child < 0 { (Step::Leaf, !child) } else { (Step::Node, child) };
    u32::try_from(number).map(make).map_err(|_| Error::malformed(FORMAT, "a child is out of range"))
}

/// The sets of categories: bits in words of 32, those of set `i` between two boundaries.
fn sets(section: &Section<'_>) -> Result<Vec<Vec<u32>>, Error> {
    let count: usize = section.one("num_cat")?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let boundaries: Vec<usize> = section.list("cat_boundaries", count.saturating_add(1))?;
    let words: Vec<u32> = section.list("cat_threshold", boundaries.last().copied().unwrap_or(0))?;
    let bits = |(from, to): (&usize, &usize)| {
        let words = words.get(*from..*to)?;
        let bits = (0_u32..).zip(words).flat_map(|(i, word)| {
            (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| i * 32 + bit)
        });
        Some(bits.collect())
    };
    let sets: Option<Vec<Vec<u32>>> = boundaries.iter().zip(boundaries.iter().skip(1)).map(bits).collect();
    sets.ok_or_else(|| Error::malformed(FORMAT, "`cat_boundaries` do not fit `cat_threshold`"))
}

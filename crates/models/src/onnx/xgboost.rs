//! Reads XGBoost's models, JSON or UBJ, into a [`Forest`].
//!
//! A number goes left when it is below the condition, a category when it is *not* in the set, also when it cannot be a category;
//! a missing value goes the default way. XGBoost compares and adds in 32 bits: values are narrowed before they are compared,
//! sums are made in 64.

use serde_json::Value;

use super::Error;
use super::forest::{Forest, Link, Node, Step, Test, Tree};

const FORMAT: &str = "XGBoost";

fn malformed(what: impl Into<String>) -> Error {
    Error::malformed(FORMAT, what)
}

fn unsupported(what: impl Into<String>, remedy: &'static str) -> Error {
    Error::Unsupported { format: FORMAT, what: what.into(), remedy }
}

/// The model in a document.
///
/// # Errors
/// It is not whole, or it has what is not supported: linear boosters, trees with several targets, other objectives.
pub fn read(model: &Value) -> Result<Forest, Error> {
    let learner = model.get("learner").ok_or_else(|| malformed("it has no `learner`"))?;
    let booster = learner.get("gradient_booster").ok_or_else(|| malformed("it has no `gradient_booster`"))?;
    let (gbtree, weights) = match booster.get("name").and_then(Value::as_str) {
        Some("gbtree") => (booster, None),
        Some("dart") => (booster.get("gbtree").unwrap_or(booster), booster.get("weight_drop")),
        other => {
            let what = format!("its booster is `{}`", other.unwrap_or("unknown"));
            return Err(unsupported(what, "train it with `gbtree` or `dart`"));
        }
    };
    let inner = gbtree.get("model").ok_or_else(|| malformed("it has no trees"))?;
    let classes = number(learner, &["learner_model_param", "num_class"])?.max(1.0);
    let targets = number(learner, &["learner_model_param", "num_target"]).unwrap_or(1.0);
    if targets > 1.0 {
        return Err(unsupported("it has several targets", "train a model for each"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, and bounded")]
    let (scores, features) = (
        classes.min(1e4) as usize,
        number(learner, &["learner_model_param", "num_feature"])?.clamp(0.0, 1e6) as usize,
    );
    let objective = learner.pointer("/objective/name").and_then(Value::as_str).unwrap_or("");
    let link = link(objective)?;
    let groups = list(inner, "tree_info")?;
    let mut trees = Vec::new();
    for (i, tree) in array(inner, "trees")?.iter().enumerate() {
        let score = groups.get(i).copied().ok_or_else(|| malformed("`tree_info` is too short"))?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "checked with the forest"
        )]
        let mut tree = read_tree(tree, score.max(0.0) as usize)?;
        if let Some(weight) = weights.and_then(|all| all.get(i)).and_then(as_number) {
            tree.leaves.iter_mut().for_each(|leaf| *leaf *= weight);
        }
        trees.push(tree);
    }
    let base = base(learner, objective, scores)?;
    Forest { names: names(learner, features), base, trees, link, single: true }.check(FORMAT)
}

fn link(objective: &str) -> Result<Link, Error> {
    match objective {
        "binary:logistic" => Ok(Link::Sigmoid { scale: 1.0 }),
        "multi:softprob" | "multi:softmax" => Ok(Link::Softmax),
        "count:poisson" | "reg:gamma" | "reg:tweedie" => Ok(Link::Exp),
        "reg:squarederror"
        | "reg:absoluteerror"
        | "reg:quantileerror"
        | "reg:pseudohubererror"
        | "reg:squaredlogerror"
        | "binary:logitraw"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map" => Ok(Link::Identity),
        other => Err(unsupported(
            format!("its objective is `{other}`"),
            "train it with a squared error, logistic, softmax, Poisson, gamma, Tweedie or ranking objective",
        )),
    }
}

/// What a row starts with: given as what is answered, turned back into a score.
fn base(learner: &Value, objective: &str, scores: usize) -> Result<Vec<f64>, Error> {
    let text = learner.pointer("/learner_model_param/base_score").and_then(Value::as_str).unwrap_or("0.5");
    // A list since 3.0, one number before.
    let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
    let given: Option<Vec<f64>> = inside.split(',').map(|word| word.trim().parse().ok()).collect();
    let mut given =
        given.filter(|all| !all.is_empty()).ok_or_else(|| malformed("`base_score` is no number"))?;
    if let [one] = given.as_slice() {
        given = vec![*one; scores];
    }
    if given.len() != scores {
        return Err(malformed("`base_score` does not fit the classes"));
    }
    Ok(match objective {
        "binary:logistic" => given.iter().map(|p| (p / (1.0 - p)).ln()).collect(),
        "count:poisson" | "reg:gamma" | "reg:tweedie" => given.iter().map(|x| x.ln()).collect(),
        _ => given,
    })
}

fn names(learner: &Value, features: usize) -> Vec<String> {
    let given = learner.get("feature_names").and_then(Value::as_array);
    let given: Option<Vec<String>> =
        given.and_then(|all| all.iter().map(|v| v.as_str().map(str::to_owned)).collect());
    given
        .filter(|all| all.len() == features)
        .unwrap_or_else(|| (0..features).map(|i| format!("f{i}")).collect())
}

/// A tree's columns, as the file has them.
struct Columns {
    left: Vec<f64>,
    right: Vec<f64>,
    feature: Vec<f64>,
    condition: Vec<f64>,
    default_left: Vec<f64>,
    kind: Vec<f64>,
    sets: Vec<(usize, Vec<u32>)>,
}

fn read_tree(tree: &Value, score: usize) -> Result<Tree, Error> {
    let columns = Columns {
        left: list(tree, "left_children")?,
        right: list(tree, "right_children")?,
        feature: list(tree, "split_indices")?,
        condition: list(tree, "split_conditions")?,
        default_left: list(tree, "default_left")?,
        kind: list(tree, "split_type").unwrap_or_default(),
        sets: sets(tree)?,
    };
    let mut out = Tree { score, ..Tree::default() };
    // Where each node of the file lands: those that are on the way, the parent first, so that steps lead forward.
    let mut ahead = vec![(0_usize, None)];
    let bound = columns.left.len();
    let mut seen = 0_usize;
    while let Some((at, parent)) = ahead.pop() {
        seen += 1;
        if seen > bound {
            return Err(malformed("a tree has a node twice"));
        }
        let get = |column: &[f64]| {
            column.get(at).copied().ok_or_else(|| malformed("a tree's lists differ in length"))
        };
        let step = if get(&columns.left)? < 0.0 {
            out.leaves.push(get(&columns.condition)?);
            Step::Leaf(count(out.leaves.len())?)
        } else {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "looked up afterwards"
            )]
            let (left, right, feature) = (
                get(&columns.left)? as usize,
                get(&columns.right)?.max(0.0) as usize,
                get(&columns.feature)?.max(0.0) as u32,
            );
            let default_left = get(&columns.default_left)? != 0.0;
            let category = columns.kind.get(at).is_some_and(|kind| *kind == 1.0);
            let own = count(out.nodes.len() + 1)?;
            // Both are set when their turn comes.
            let (yes, no) = (Step::Leaf(0), Step::Leaf(0));
            if category {
                let set = columns.sets.iter().find(|(node, _)| *node == at).map(|(_, set)| set.clone());
                let set = set.ok_or_else(|| malformed("a split names a set that is not there"))?;
                out.nodes.push(Node { feature, test: Test::OneOf(set), yes, no, missing: !default_left });
                ahead.extend([(left, Some((own, false))), (right, Some((own, true)))]);
            } else {
                let test = Test::Below(get(&columns.condition)?);
                out.nodes.push(Node { feature, test, yes, no, missing: default_left });
                ahead.extend([(right, Some((own, false))), (left, Some((own, true)))]);
            }
            Step::Node(own)
        };
        if let Some((parent, answer)) = parent
            && let Some(node) = out.nodes.get_mut(parent as usize)
        {
            *(if answer { &mut node.yes } else { &mut node.no }) = step;
        }
    }
    Ok(out)
}

/// The number of the last of so many.
fn count(len: usize) -> Result<u32, Error> {
    u32::try_from(len.saturating_sub(1)).map_err(|_| malformed("a tree is too large"))
}

fn sets(tree: &Value) -> Result<Vec<(usize, Vec<u32>)>, Error> {
    let Ok(nodes) = list(tree, "categories_nodes") else { return Ok(Vec::new()) };
    let (all, from, sizes) =
        (list(tree, "categories")?, list(tree, "categories_segments")?, list(tree, "categories_sizes")?);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked up afterwards")]
    let set = |((node, from), size): ((&f64, &f64), &f64)| {
        let words = all.iter().skip(from.max(0.0) as usize).take(size.max(0.0) as usize);
        let mut set: Vec<u32> = words.map(|word| word.max(0.0) as u32).collect();
        set.sort_unstable();
        (node.max(0.0) as usize, set)
    };
    Ok(nodes.iter().zip(&from).zip(&sizes).map(set).collect())
}

/// Numbers come as such, as texts, and as yes or no.
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(n) => n.as_f64(),
        Value::String(text) => text.trim_matches(['[', ']']).parse().ok(),
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        _ => None,
    }
}

fn number(learner: &Value, path: &[&str]) -> Result<f64, Error> {
    let value = path.iter().try_fold(learner, |value, key| value.get(key));
    value
        .and_then(as_number)
        .ok_or_else(|| malformed(format!("`{}` is missing or no number", path.join("."))))
}

fn array<'a>(of: &'a Value, key: &str) -> Result<&'a Vec<Value>, Error> {
    of.get(key).and_then(Value::as_array).ok_or_else(|| malformed(format!("`{key}` is missing or no list")))
}

fn list(of: &Value, key: &str) -> Result<Vec<f64>, Error> {
    let values: Option<Vec<f64>> = array(of, key)?.iter().map(as_number).collect();
    values.ok_or_else(|| malformed(format!("`{key}` has what is no number")))
}

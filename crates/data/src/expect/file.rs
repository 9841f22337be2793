//! A file of expectations: YAML, with everything that is wrong in it told by line and column.
//!
//! In three steps, because each needs the one before: the text is read ([`Written::parse`] refuses what is no YAML), set against
//! the schema that editors use too ([`json_schema`]), and looked at for sense ([`Suite::new`]). Against the columns of a dataset it
//! is held by [`Written::fit`], before any row is read.

use serde_json::Value;
use yaml::Node;
use yaml::problem::{Problem, sort};

use crate::Schema;
use crate::expect::{Config, Suite};

/// What to do about a file with nothing in it.
const EMPTY: &str = "run `forebay data profile DATASET --suggest` to have one that fits your data";

/// A file of expectations that makes sense in itself.
#[derive(Debug, Clone)]
pub struct Written {
    /// What it says.
    pub config: Config,
    /// What is to be looked at.
    pub suite: Suite,
    tree: Node,
}

impl Written {
    /// Reads a file.
    ///
    /// # Errors
    /// Every problem in it, in the order of the file.
    pub fn parse(text: &str) -> Result<Written, Vec<Problem>> {
        let parsed = yaml::spans::parse_plain(text, EMPTY);
        let mut problems = parsed.problems;
        let Some(tree) = parsed.root else { return Err(problems) };
        problems.extend(yaml::shape::check(&json_schema(), &tree));
        if !problems.is_empty() {
            sort(&mut problems);
            return Err(problems);
        }
        // What has the shape of the schema has that of the types it is made from.
        let config: Config = match serde_json::from_value(tree.to_json()) {
            Ok(config) => config,
            Err(error) => {
                let remedy = "compare it with docs/reference/expectations.md";
                return Err(vec![Problem::new(tree.at, "", error.to_string(), remedy)]);
            }
        };
        match Suite::new(&config) {
            Ok(suite) => Ok(Written { config, suite, tree }),
            Err(crate::Error::Expectations { problems }) => Err(placed(&tree, problems)),
            Err(error) => Err(vec![Problem::new(tree.at, "", error.to_string(), "correct it")]),
        }
    }

    /// What does not fit the columns of a dataset, in the order of the file: columns that are not there, checks that a column's
    /// type does not have, values of another type, SQL that cannot be planned.
    pub fn fit(&self, columns: &Schema) -> Vec<Problem> {
        placed(&self.tree, self.suite.fit(columns))
    }
}

/// The problems with the places of what they are about.
fn placed(tree: &Node, problems: Vec<crate::expect::Problem>) -> Vec<Problem> {
    let place = |p: crate::expect::Problem| {
        let found = tree.locate(&p.pointer);
        // A value is pointed at itself, whatever holds others at its key.
        let holds = matches!(found.node.data, yaml::tree::Data::Map(_) | yaml::tree::Data::List(_));
        let at = if holds { found.label() } else { found.node.at };
        Problem::new(at, p.pointer, p.what, p.remedy)
    };
    let mut problems: Vec<Problem> = problems.into_iter().map(place).collect();
    sort(&mut problems);
    problems
}

/// The JSON Schema of a file of expectations, for editors.
pub fn json_schema() -> Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    yaml::shape::without_null(&mut schema);
    if let Some(object) = schema.as_object_mut() {
        object.insert("title".to_owned(), "Expectations of a Forebay dataset".into());
    }
    schema
}

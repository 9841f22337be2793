//! What a configuration file is checked against, built once for any number of files.

use std::collections::BTreeSet;
use std::path::Path;

use ::pipeline::Registry;
use jsonschema::Validator;
use serde_json::Value as Json;

use super::{Checked, Env, Problem, env, problem, schema, semantics, spans, tree, validate};

/// The kinds of stages, the schema of a file that may use them, and its compiled form.
pub struct Rules<'a> {
    registry: &'a Registry,
    pub(super) schema: Json,
    /// Or why the schema is none.
    pub(super) validator: Result<Validator, String>,
}

impl<'a> Rules<'a> {
    /// The rules for these kinds of stages.
    pub fn new(registry: &'a Registry) -> Rules<'a> {
        let schema = schema::of(registry);
        let validator = jsonschema::validator_for(&schema).map_err(|e| e.to_string());
        Rules { registry, schema, validator }
    }

    /// Checks the bytes of a file as if it lay in `folder`, against which its paths are looked up.
    pub fn check(&self, bytes: &[u8], folder: &Path, env: &Env) -> Checked {
        self.check_sections(bytes, folder, env, None)
    }

    /// The same for some sections alone: of the others only the syntax counts.
    pub(super) fn check_sections(
        &self,
        bytes: &[u8],
        folder: &Path,
        env: &Env,
        sections: Option<&[&str]>,
    ) -> Checked {
        let source = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(e) => {
                let before =
                    String::from_utf8_lossy(bytes.get(..e.valid_up_to()).unwrap_or_default()).into_owned();
                let line = before.lines().count().max(1);
                let column = before.lines().last().map_or(1, |l| l.chars().count() + 1);
                let message = "the file is not UTF-8 text";
                let at = tree::Place { line, column };
                let problem = Problem::new(at, "", message, "save it as UTF-8");
                return Checked { config: None, problems: vec![problem], shown: String::new() };
            }
        };
        let parsed = spans::parse(source);
        let mut problems = parsed.problems;
        let Some(mut tree) = parsed.root else {
            problem::sort(&mut problems);
            return Checked { config: None, problems, shown: super::guarded(source) };
        };
        let shown = super::masked(source, &tree);
        if let (Some(sections), tree::Data::Map(entries)) = (sections, &mut tree.data) {
            entries.retain(|e| sections.contains(&e.key.as_str()));
        }
        let substituted = env::substitute(&mut tree, env, &mut problems);
        let mut json = tree.to_json();
        problems.extend(validate::validate(self, &tree, &mut json, &substituted));
        let unsound: BTreeSet<String> = problems.iter().map(|p| p.path.clone()).collect();
        let mut semantics = semantics::Semantics {
            tree: &tree,
            json: &json,
            schema: &self.schema,
            registry: self.registry,
            folder,
            problems: &mut problems,
        };
        semantics.check(&unsound);
        let mut config = None;
        if problems.iter().all(|p| p.absent) {
            match serde_json::from_value(json) {
                Ok(read) => config = Some(read),
                Err(e) => {
                    let remedy = "compare it with `forebay schema`";
                    problems.push(Problem::new(tree.at, "", format!("this cannot be read: {e}"), remedy));
                }
            }
        }
        problem::sort(&mut problems);
        Checked { config, problems, shown }
    }
}

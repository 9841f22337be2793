//! `forebay check`: every problem of the configuration, with its place, its line and a remedy.

use pipeline::Registry;
use serde_json::json;

use super::{Global, print, print_json, project};
use crate::Error;
use crate::config::{self, Env, FILE, problem};

pub(super) fn run(global: &Global, registry: &Registry) -> Result<(), Error> {
    let env = Env::of_process(&global.project);
    let checked = config::load(&global.project, &env, registry).map_err(|e| project::unread(global, &e))?;
    let problems = &checked.problems;
    if global.json {
        print_json(&json!({"file": FILE, "ok": problems.is_empty(), "problems": problems}))?;
    } else if problems.is_empty() {
        let (models, pipelines) =
            checked.config.as_ref().map_or((0, 0), |c| (c.models.len(), c.pipelines.len()));
        print(&format!("{FILE} is fine: {models} models, {pipelines} pipelines"));
    } else {
        let plural = if problems.len() == 1 { "" } else { "s" };
        let text = problem::render(FILE, &checked.shown, problems);
        print(&format!("{text}{} problem{plural}", problems.len()));
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid) }
}

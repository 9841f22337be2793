//! `forebay check`: every problem of the configuration, with its place, its line and a remedy.

use pipeline::Registry;
use serde_json::json;

use super::{Global, print, print_json, project, time};
use crate::config::{self, Env, FILE, problem};
use crate::{Error, inventory};

pub(super) fn run(global: &Global, registry: &Registry) -> Result<(), Error> {
    let env = Env::of_process(&global.project);
    let checked = config::load(&global.project, &env, registry).map_err(|e| project::unread(global, &e))?;
    let problems = &checked.problems;
    let notes = match &checked.config {
        Some(c) => inventory::table(&global.project, c).map(|t| inventory::uncounted(c, &t, time::now())),
        None => Ok(Vec::new()),
    };
    // A table that cannot be read is a matter of whoever reads it: `up` says so.
    let notes = notes.unwrap_or_default();
    if global.json {
        print_json(&json!({"file": FILE, "ok": problems.is_empty(), "problems": problems, "notes": notes}))?;
    } else if problems.is_empty() {
        let (models, pipelines) =
            checked.config.as_ref().map_or((0, 0), |c| (c.models.len(), c.pipelines.len()));
        print(&format!("{FILE} is fine: {models} models, {pipelines} pipelines"));
        notes.iter().for_each(|n| print(&format!("note: {n}")));
    } else {
        let plural = if problems.len() == 1 { "" } else { "s" };
        let text = problem::render(FILE, &checked.shown, problems);
        print(&format!("{text}{} problem{plural}", problems.len()));
    }
    if problems.is_empty() { Ok(()) } else { Err(Error::Invalid) }
}

//! A run that is asked for here, and watched until it has ended. Without a server the project is opened and its runs are
//! worked on in this process; ended by Ctrl-C, the run is given back and goes on with the next server or the next `retry`.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use contract::Surface;
use gateway::{Current, RunWanted};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;

use super::super::project::{self, Opened};
use super::super::remote::Remote;
use super::super::signals::heard;
use super::super::storage::clean;
use super::super::{Global, print, print_json};
use super::place::Place;
use super::show;
use crate::Error;
use crate::config::Config;

/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// Whether a pipeline of the folder is run by durable runs.
pub(in crate::cli) fn is_durable(global: &Global, config: &Config, pipeline: &str) -> bool {
    let registry = crate::wiring::kinds_for_check(&global.project);
    config.pipelines.get(pipeline).is_some_and(|p| pipeline::is_durable(&p.spec(), &registry))
}

/// Asks for runs and watches them until they have ended.
///
/// # Errors
/// What is wrong with what is asked, a run that did not succeed, and [`Error::Partial`] when something is missing from what one made.
pub(in crate::cli) fn started(global: &Global, wanted: Vec<RunWanted>) -> Result<(), Error> {
    at_work(global, async |place| {
        let mut runs = Vec::new();
        for wanted in &wanted {
            runs.push(place.start(wanted).await?);
        }
        watch(global, place, runs).await
    })
}

/// The same of what a run did not bring to its end.
pub(super) fn retried(global: &Global, id: &str) -> Result<(), Error> {
    at_work(global, async |place| {
        let run = place.again(id).await?;
        watch(global, place, vec![run]).await
    })
}

/// Does something where somebody works on runs: at the server, or here.
fn at_work(global: &Global, work: impl AsyncFnOnce(&Place) -> Result<(), Error>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|e| {
        Error::new(format!("cannot start: {e}"), "check the limits on open files and threads (`ulimit -a`)")
    })?;
    let done = runtime.block_on(async {
        if let Some(remote) = Remote::of(global)? {
            return work(&Place::Server(Box::new(remote))).await;
        }
        let config = project::checked(global)?;
        super::super::run::log(&config.telemetry.log);
        let (mut opened, assembly, app) =
            Opened::open(global, &config, Surface::Cli, true, &Handle::current()).await?;
        let current = Current::new(app);
        opened.work_on_runs(global, &config, &current, &assembly)?;
        let runs = current.app().runs();
        let runs = runs.ok_or_else(|| Error::new("no runs are kept here", "report this"))?;
        let done = work(&Place::Here(runs, None)).await;
        drop((current, assembly));
        let closed = opened.close().await;
        done.and(closed)
    });
    runtime.shutdown_background();
    done
}

async fn watch(global: &Global, place: &Place, mut runs: Vec<Value>) -> Result<(), Error> {
    let several = runs.len() > 1;
    let mut interrupted = heard(SignalKind::interrupt())?;
    let mut told = HashMap::new();
    let mut open: Vec<usize> = (0..runs.len()).collect();
    while !open.is_empty() {
        for at in &open {
            let Some(run) = runs.get_mut(*at) else { continue };
            let id = show::word(run, "id");
            *run = place.show(&id).await?;
            if !global.json {
                tell(run, several, &mut told);
            }
        }
        open.retain(|at| runs.get(*at).is_some_and(|r| r.get("ended_at").is_none()));
        if open.is_empty() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = interrupted.recv() => {
                let _ = writeln!(std::io::stderr(), "stopped; `forebay runs list` shows what is open");
                return Err(Error::Cancelled);
            }
        }
    }
    let failed = runs.iter().filter(|r| show::word(r, "status") != "succeeded").count();
    if global.json {
        match runs.as_slice() {
            [one] => print_json(one)?,
            all => print_json(&all)?,
        }
    } else if let [one] = runs.as_slice() {
        print(&show::stages(one));
        print(&show::line(one));
    } else {
        print(&format!("{} of {} runs succeeded", runs.len() - failed, runs.len()));
    }
    let partial = runs.iter().any(|r| r.get("partial").is_some());
    match runs.iter().find(|r| show::word(r, "status") != "succeeded") {
        None if partial => Err(Error::Partial),
        None => Ok(()),
        Some(run) => {
            let why = run.pointer("/error/message").and_then(Value::as_str).unwrap_or("it was cancelled");
            let id = show::word(run, "id");
            let help =
                format!("`forebay runs logs {id}` shows what it said; `forebay runs retry {id}` goes on");
            Err(Error::new(format!("{}: {}", show::line(run), clean(why)), help))
        }
    }
}

/// A line for every stage whose state is another one.
fn tell(run: &Value, several: bool, told: &mut HashMap<(String, String), String>) {
    let id = show::word(run, "id");
    for stage in run.get("stages").and_then(Value::as_array).into_iter().flatten() {
        let (name, state) = (show::word(stage, "name"), show::word(stage, "state"));
        if matches!(state.as_str(), "blocked" | "ready") {
            continue;
        }
        let before = told.insert((id.clone(), name.clone()), state.clone());
        if before.as_ref() == Some(&state) {
            continue;
        }
        let of = if several {
            let part = run.pointer("/partition/key").and_then(Value::as_str);
            format!("{} ", clean(part.unwrap_or(&id)))
        } else {
            String::new()
        };
        let took = show::took(stage);
        let took = if took.is_empty() { took } else { format!(" {took}") };
        let mut line = format!("{of}{name}: {state}{took}");
        if let Some(reused) = stage.get("reused").and_then(Value::as_str) {
            line.push_str(&format!(" (as in {})", clean(reused)));
        }
        if state == "waiting" {
            line.push_str(&format!(": {}  forebay runs approve {id} {name}", show::word(stage, "approval")));
        }
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

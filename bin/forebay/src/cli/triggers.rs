//! `forebay triggers list`: what starts the pipelines of the project, when each comes up next, and what it started last. It is
//! read in the project's folder, beside a running server too.

use clap::Subcommand;
use comfy_table::{Table, presets};
use contract::UnixMillis;
use pipeline::triggers::{Memory, Trigger, TriggerPlan, Triggers, local_time};
use serde_json::{Value, json};

use super::remote::Remote;
use super::storage::{self, Need, clean, failed};
use super::{Global, block_on, print, print_json, project, time};
use crate::Error;
use crate::config::triggers::plans;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what starts pipelines besides requests.
    List,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let Command::List = &args.command;
    if Remote::of(global)?.is_some() {
        let help = "run it without --server, in the project's folder on the server";
        return Err(Error::new("triggers are listed from the configuration, and beside it alone", help));
    }
    let config = project::checked_but_for_models(global)?;
    let plans = plans(&config);
    let memories = block_on(memories(global, &plans))?;
    let now = time::now();
    let rows: Vec<Value> =
        plans.into_iter().zip(memories).flat_map(|(plan, memory)| rows(plan, memory, now)).collect();
    if global.json {
        return print_json(&json!({"object": "list", "data": rows}));
    }
    if rows.is_empty() {
        print("no pipeline has a trigger: `on: {cron: \"0 3 * * *\"}` would be one");
        return Ok(());
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(["pipeline", "trigger", "next", "last", "run", "waiting", "problem"]);
    for row in &rows {
        let word = |name: &str| clean(row.get(name).and_then(Value::as_str).unwrap_or_default());
        let at = row.get("last_at").and_then(Value::as_i64).map(|ms| time::show(UnixMillis(ms)));
        let waiting = row.get("waiting").and_then(Value::as_u64).filter(|n| *n > 0);
        table.add_row([
            word("pipeline"),
            word("trigger"),
            word("next"),
            at.unwrap_or_default(),
            word("last_run"),
            waiting.map(|n| n.to_string()).unwrap_or_default(),
            word("problem"),
        ]);
    }
    print(&table.trim_fmt());
    Ok(())
}

/// What is kept of each plan; of a project that nothing was recorded in, nothing.
async fn memories(global: &Global, plans: &[TriggerPlan]) -> Result<Vec<Memory>, Error> {
    if !global.project.join(".forebay/forebay.db").exists() {
        return Ok(vec![Memory::default(); plans.len()]);
    }
    let reader = storage::open(global, Need::Records).await?;
    let mut all = Vec::with_capacity(plans.len());
    for plan in plans {
        let stored = reader.triggers.get(plan.pipeline.as_str()).await.map_err(failed)?;
        let memory = stored.map(|s| serde_json::from_str(&s.memory)).transpose();
        all.push(memory.map_err(|e| failed(e.into()))?.unwrap_or_default());
    }
    reader.close().await;
    Ok(all)
}

fn rows(plan: TriggerPlan, memory: Memory, now: UnixMillis) -> Vec<Value> {
    let all = Triggers::new(plan, memory, now);
    let row = |trigger: &Trigger| {
        let id = trigger.id();
        let next = all.next(trigger);
        let shown = match (trigger, next) {
            (Trigger::Cron { schedule, .. }, Some(at)) => local_time(at, schedule.zone()),
            _ => None,
        };
        let last = all.memory().last(&id);
        json!({
            "pipeline": all.plan().pipeline, "trigger": id, "next_at": next, "next": shown,
            "last_at": last.map(|l| l.at), "last_run": last.map(|l| l.run),
            "waiting": all.memory().waiting(&id), "active": all.memory().active(), "problem": all.memory().problem(),
        })
    };
    all.plan().triggers.iter().map(row).collect()
}

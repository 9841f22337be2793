//! `forebay runs list|show|logs|output|retry|cancel|approve|reject|backfill`: durable runs of pipelines, in the project's storage or
//! at a running server. `forebay run PIPELINE` asks for one.
//!
//! Ended or decided in the folder while a server works on it, a run is so at once for everybody; the server stops what it does
//! when it looks at the run next, within 20 seconds.

mod backfill;
pub(super) mod follow;
mod place;
mod show;

use clap::Subcommand;
use gateway::RunWanted;

use self::place::Place;
use super::{Global, block_on, print, print_json};
use crate::Error;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the newest runs.
    List {
        /// Of this pipeline alone.
        #[arg(long, value_name = "NAME")]
        pipeline: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
        limit: u32,
        /// Those before this one.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Show a run: each stage, how long it took, why it was run.
    Show {
        /// The id, as listed.
        id: String,
    },
    /// Print what the stages of a run said.
    Logs {
        /// The id, as listed.
        id: String,
        /// Of this stage alone.
        stage: Option<String>,
        /// Go on until the run has ended.
        #[arg(long, short)]
        follow: bool,
    },
    /// Print what a stage made: text as it is, a table by the name of its version, all else as JSON.
    Output {
        /// The id, as listed.
        id: String,
        /// The stage; unless given, the last of the pipeline.
        stage: Option<String>,
    },
    /// Ask for a run, and watch it until it has ended; `forebay run PIPELINE` does the same.
    Start {
        /// The pipeline.
        pipeline: String,
        /// What it is given: a JSON value, else text.
        #[arg(long = "param", value_name = "NAME=VALUE", value_parser = super::run::param)]
        params: Vec<(String, serde_json::Value)>,
    },
    /// Run again what a run did not bring to its end: what it did is not done again.
    Retry {
        /// The id, as listed.
        id: String,
    },
    /// End a run.
    Cancel {
        /// The id, as listed.
        id: String,
    },
    /// Let a stage start that waits for approval.
    Approve(Decision),
    /// Say that a stage must not start that waits for approval.
    Reject(Decision),
    /// Run a pipeline once for each part of a stretch of time.
    Backfill(backfill::Args),
}

#[derive(Debug, clap::Args)]
struct Decision {
    /// The run's id, as listed.
    id: String,
    /// The stage.
    stage: String,
    /// Why.
    #[arg(long)]
    reason: Option<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    // What starts runs needs somebody who works on them.
    match &args.command {
        Command::Start { pipeline, params } => {
            let (pipeline, params) = (pipeline.clone(), params.iter().cloned().collect());
            return follow::started(global, vec![RunWanted { pipeline, params, ..RunWanted::default() }]);
        }
        Command::Retry { id } => return follow::retried(global, id),
        Command::Backfill(args) => return backfill::run(global, args),
        _ => {}
    }
    block_on(async {
        let place = Place::at_rest(global).await?;
        let done = one(global, &place, &args.command).await;
        place.close().await;
        done
    })
}

async fn one(global: &Global, place: &Place, command: &Command) -> Result<(), Error> {
    let found = match command {
        Command::List { pipeline, limit, after } => {
            place.list(pipeline.as_deref(), after.as_deref(), *limit).await?
        }
        Command::Show { id } => place.show(id).await?,
        Command::Cancel { id } => place.cancel(id).await?,
        Command::Approve(d) => place.decide(&d.id, &d.stage, true, d.reason.as_deref()).await?,
        Command::Reject(d) => place.decide(&d.id, &d.stage, false, d.reason.as_deref()).await?,
        Command::Output { id, stage } => place.output(id, stage.as_deref()).await?,
        Command::Logs { id, stage, follow } => return show::logs(place, id, stage.as_deref(), *follow).await,
        Command::Start { .. } | Command::Retry { .. } | Command::Backfill(_) => return Ok(()),
    };
    if global.json {
        return print_json(&found);
    }
    match command {
        Command::List { .. } => show::list(&found),
        Command::Show { .. } => show::whole(&found),
        Command::Output { .. } => print(&show::output(&found)),
        _ => print(&show::line(&found)),
    }
    Ok(())
}

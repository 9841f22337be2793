//! `forebay lineage THING`: what it was made of and what was made of it, in the project's storage or at a running server.

mod tree;

use std::io::Write as _;

use clap::Args as ClapArgs;
use contract::Code;
use gateway::segment;
use http::Method;
use pipeline::lineage::{Direction, Walk, Wanted, graph};
use serde_json::Value;

use super::remote::{Refused, Remote};
use super::storage::{self, Need};
use super::{Global, block_on, print, print_json};
use crate::Error;

#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A dataset (`flights`), a version (`flights@3`), a column (`flights.delay`), a run, a job (`PIPELINE.STAGE`), a file
    /// (`file:raw/a.csv`) or the hash of one, a model.
    thing: String,
    /// Only what it was made of.
    #[arg(long)]
    up: bool,
    /// Only what was made of it.
    #[arg(long)]
    down: bool,
    /// How many jobs away.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    depth: u32,
    /// Show the columns of what was written, and those that they are made of.
    #[arg(long)]
    columns: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let found = block_on(ask(global, args))?;
    if global.json {
        return print_json(&found);
    }
    print(&tree::of(&found));
    if found.get("more").and_then(Value::as_bool) == Some(true) {
        let note = "there is more: give a larger --depth, or ask from a thing further on\n";
        let _ = std::io::stderr().write_all(note.as_bytes());
    }
    Ok(())
}

async fn ask(global: &Global, args: &Args) -> Result<Value, Error> {
    let direction = match (args.up, args.down) {
        (true, false) => Direction::Up,
        (false, true) => Direction::Down,
        _ => Direction::Both,
    };
    if let Some(remote) = Remote::of(global)? {
        let way = match direction {
            Direction::Up => "up",
            Direction::Down => "down",
            Direction::Both => "both",
        };
        let (of, depth, columns) = (segment(&args.thing), args.depth, args.columns);
        let query = format!("lineage?of={of}&direction={way}&depth={depth}&columns={columns}");
        // An administrator sees what everybody's runs made.
        let nothing: Option<&()> = None;
        return match remote.ask(Method::GET, &format!("/v1/admin/{query}"), nothing).await? {
            Err(r) if matches!(r.status.as_u16(), 401 | 403) => {
                remote.must(Method::GET, &format!("/v1/{query}"), nothing).await
            }
            other => other.map_err(Refused::into_error),
        };
    }
    let reader = storage::open(global, Need::Records).await?;
    let wanted =
        Wanted { of: args.thing.clone(), direction, depth: args.depth, columns: args.columns, tenant: None };
    let walked = Walk::over(reader.lineage.clone()).walk(&wanted).await;
    reader.close().await;
    let (found, all) = walked.map_err(refused)?;
    Ok(graph(&wanted, &found, &all))
}

fn refused(e: contract::Error) -> Error {
    let help = match e.code {
        Code::NotFound => "name a dataset, DATASET@VERSION, DATASET.COLUMN, a run or PIPELINE.STAGE",
        Code::InvalidRequest => "write its kind before it, as in `file:raw/a.csv`",
        _ => "check .forebay in the project and the disk",
    };
    Error::new(e.message, help)
}

//! `forebay-lightgbm`: LightGBM in a process of its own, for as long as one training.
//!
//! A table comes in over stdin, then one model after another is asked for; models go out over stdout
//! ([`models::train::worker::protocol`]). The end of stdin ends the process at once, in the middle of a round too: it dies with
//! whoever started it. What it may take of memory is set when it starts, so that a training that needs more fails alone.

mod ears;
mod error;
mod fit;
mod native;
mod table;

use std::io::{self, Write as _};

use clap::Parser;
use models::train::worker::protocol::{Ask, Failed, Say};

use crate::ears::Ears;
use crate::error::Error;
use crate::table::Table;

/// Grows trees for Forebay, which starts it: it is of no use on its own.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// The address space that it may take, in bytes.
    #[arg(long)]
    memory: u64,
    /// Its threads.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=512))]
    threads: u32,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    limit(flags.memory)?;
    native::log_to_stderr()?;
    let ears = Ears::open()?;
    match serve(&flags, &ears) {
        Ok(()) => Ok(()),
        Err(e) => {
            // Whoever asked may have gone: then nobody is told.
            let _ = say(&Say::Failed(Failed { what: e.to_string(), memory: e.is_memory() }));
            Err(e.into())
        }
    }
}

/// From here on an allocation beyond `memory` fails.
fn limit(memory: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = Rlimit { current: Some(memory), maximum: Some(memory) };
    Ok(setrlimit(Resource::As, limit)?)
}

fn serve(flags: &Flags, ears: &Ears) -> Result<(), Error> {
    let mut table: Option<Table> = None;
    let out_of_place = || Error::Broken("a frame out of place".to_owned());
    loop {
        match ears.next()? {
            Ask::Open(open) if table.is_none() => table = Some(Table::of(&open)?),
            Ask::Column(place, values) => table.as_mut().ok_or_else(out_of_place)?.column(place, &values)?,
            Ask::Fit(plan) => {
                let table = table.as_ref().ok_or_else(out_of_place)?;
                table.whole()?;
                fit::fit(table, &plan, flags.threads, ears, &mut say)?;
            }
            _ => return Err(out_of_place()),
        }
    }
}

/// Says it at once.
fn say(what: &Say) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    let gone = |_| Error::Broken("nobody listens".to_owned());
    out.write_all(&what.encode()).map_err(gone)?;
    out.flush().map_err(gone)
}

//! `forebay up`: serves the project until it is told to stop, then lets streams finish.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use contract::SystemClock;
use futures_util::{Stream, stream};
use gateway::Listening;
use store::Store;
use tokio::signal::unix::{SignalKind, signal};

use super::Global;
use crate::config::{self, Config, Env, FILE, problem};
use crate::{Error, telemetry, wiring};

/// How much the part cache may hold.
const CACHE_BYTES: u64 = 256 << 20;
/// How much nicer the ledger's threads are than the rest.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// `up`'s arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen here instead of at the configuration's `server.listen`; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let config = checked(global)?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(&config.telemetry.log))
        .with_writer(std::io::stderr)
        .init();
    let limits = |e| Error::new(format!("cannot start: {e}"), "check the limits of this user");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(limits)?;
    let behind = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("ledger")
        .on_thread_start(yield_to_callers)
        .enable_all()
        .build()
        .map_err(limits)?;
    runtime.block_on(serve(global, args, &config, behind.handle()))
}

/// Makes the calling thread, and those it will start, nicer than the threads that answer callers.
///
/// A group commit keeps a core busy for milliseconds. On a small machine that is the core on which somebody's next
/// token waits, and the scheduler would give both their turn. The ledger's threads and SQLite's, which they start, have
/// a runtime of their own for this.
fn yield_to_callers() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // Without it, answers are later, not wrong.
        if let Ok(usual) = getpriority_process(None) {
            let _ = setpriority_process(None, (usual + NICER).min(19));
        }
    }
}

/// The configuration, or all its problems.
fn checked(global: &Global) -> Result<Config, Error> {
    let env = Env::of_process(&global.project);
    let registry = wiring::kinds_for_check(&global.project);
    let path = global.project.join(FILE);
    let checked =
        config::load(&global.project, &env, &registry).map_err(|e| Error::file("read", &path, &e))?;
    match checked.config {
        Some(config) if checked.problems.is_empty() => Ok(config),
        _ => {
            let text = problem::render(FILE, &checked.shown, &checked.problems);
            let _ = std::io::stderr().write_all(text.as_bytes());
            Err(Error::Invalid)
        }
    }
}

async fn serve(
    global: &Global,
    args: &Args,
    config: &Config,
    behind: &tokio::runtime::Handle,
) -> Result<(), Error> {
    let address = match args.listen {
        Some(a) => a,
        None => config.server.listen.parse().map_err(|_| {
            Error::new(format!("`{}` is not an address", config.server.listen), "write it as 127.0.0.1:8080")
        })?,
    };
    let listening = Listening::bind(address).await.map_err(|e| {
        let help = match e.kind() {
            std::io::ErrorKind::AddrInUse => "stop what listens there, or choose another port by --listen",
            std::io::ErrorKind::PermissionDenied => "choose a port above 1023",
            _ => "check the address",
        };
        Error::new(format!("cannot listen on {address}: {e}"), help)
    })?;
    let at = listening.address;
    let project = global.project.clone();
    let opening =
        behind.spawn(async move { Store::open(&project, store::Settings::default(), CACHE_BYTES).await });
    let opened = opening.await.map_err(|e| Error::new(e.to_string(), "start again"))?;
    let store = opened.map_err(|e| {
        Error::new(format!("cannot open the project's store: {e}"), "see the message; nothing was changed")
    })?;
    if store.recovery.lost > 0 || store.recovery.replayed > 0 {
        let (replayed, lost) = (store.recovery.replayed, store.recovery.lost);
        tracing::info!(replayed, lost, "the last server did not end by itself; its ledger is complete again");
    }
    let background = behind.spawn(store.background());
    let clock = Arc::new(SystemClock::default());
    let export = telemetry::start(config)?;
    let tracing = export.as_ref().map(|e| e.tracing(config));
    let app =
        wiring::assemble(&global.project, config, &store, clock, at.ip().is_loopback(), tracing).await?;
    let told = if global.json {
        format!("{{\"listening\":\"http://{at}\"}}")
    } else {
        format!("listening on http://{at}")
    };
    super::print(&told);
    let open = gateway::serve(app, listening, stops()?, wiring::drain(config)).await;
    if open > 0 {
        tracing::warn!(open, "answers were still under way at the end of the drain and were cut");
    }
    store.ledger.close();
    let closed = background.await;
    // The ledger first: a collector that hangs must not stand between a record and its database.
    if let Some(export) = export {
        export.close().await;
    }
    match closed {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => {
            Err(Error::new(format!("the ledger did not close: {e}"), "start again: the journal is replayed"))
        }
        Err(e) => Err(Error::new(e.to_string(), "start again: the journal is replayed")),
    }
}

/// SIGTERM and Ctrl-C, each time.
fn stops() -> Result<impl Stream<Item = ()>, Error> {
    let listen = |kind| {
        signal(kind).map_err(|e| Error::new(format!("cannot hear signals: {e}"), "check this user's limits"))
    };
    let both = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(stream::unfold(both, async |(mut term, mut interrupt)| {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        Some(((), (term, interrupt)))
    }))
}

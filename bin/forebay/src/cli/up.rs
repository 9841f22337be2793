//! `forebay up`: serves the project until it is told to stop, then lets streams finish.

use std::net::SocketAddr;

use contract::Surface;
use futures_util::{Stream, stream};
use gateway::{Current, Listening};
use pipeline::task::{Background, Behind};
use tokio::runtime::Handle;
use tokio::signal::unix::SignalKind;

use super::Global;
use super::project::{Opened, checked};
use super::signals::heard;
use crate::Error;
use crate::config::Config;
use crate::logs::Stderr;
use crate::reload::{self, Before, Begun};

/// How much nicer the ledger's threads are than those that answer callers: on one core that is busy with callers they still keep up
/// with them; at 10 they fell behind by 12 MB a second.
const LEDGER: i32 = 5;
/// The same of threads that read tables, train models and start commands: next to nothing while all cores are busy with callers.
const HEAVY: i32 = 15;

/// `up`'s arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Listen here instead of at the configuration's `server.listen`; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) fn run(global: &Global, args: &Args) -> Result<(), Error> {
    let before = Before::of(&global.project);
    let config = checked(global)?;
    tracing_subscriber::fmt()
        .with_env_filter(super::log_filter(&config.telemetry.log))
        .with_writer(|| Stderr)
        .init();
    let limits = |e| Error::new(format!("cannot start: {e}"), "check the limits of this user");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(limits)?;
    let ledger = Background::start("ledger", Some(1), || yield_to_callers(LEDGER)).map_err(limits)?;
    let heavy = Background::start("heavy", None, || yield_to_callers(HEAVY)).map_err(limits)?;
    let served = runtime.block_on(serve(global, args, (config, before), (ledger.handle(), heavy.behind())));
    // The ledger is closed by now. A read of a file that hangs is not waited for.
    runtime.shutdown_background();
    served
}

/// Makes the calling thread, and the threads and processes it will start, nicer than the threads that answer callers.
///
/// A group commit keeps a core busy for milliseconds. On a small machine that is the core on which somebody's next
/// token waits, and the scheduler would give both their turn. The ledger's threads and SQLite's, which they start, have
/// a runtime of their own for this, and so have durable runs for their heavy stages.
fn yield_to_callers(nicer: i32) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // Without it, answers are later, not wrong.
        if let Ok(usual) = getpriority_process(None) {
            let _ = setpriority_process(None, (usual + nicer).min(19));
        }
    }
}

async fn serve(
    global: &Global,
    args: &Args,
    (config, before): (Config, Before),
    (ledger, heavy): (&Handle, Behind),
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
            std::io::ErrorKind::AddrNotAvailable => {
                "choose an address of this machine, such as 127.0.0.1:8080"
            }
            _ => "check the address",
        };
        Error::new(format!("cannot listen on {address}: {e}"), help)
    })?;
    let at = listening.address;
    let open = at.ip().is_loopback();
    let (mut opened, assembly, app) = Opened::open(global, &config, Surface::Native, open, ledger).await?;
    assembly.durable().heavy_on(heavy.clone());
    Box::pin(opened.serve_features(global, &config, &app, &heavy)).await?;
    let capture = opened.capture(global, &config, &heavy);
    let predictions = opened.serve_predictions(&config, &app, capture.as_deref(), &assembly);
    let current = Current::new(app);
    let starting = opened.work(global, &config, &current, &assembly)?;
    let watching = opened.watch((global, &config), &current.app(), &starting, &heavy);
    let (project, listen) = (global.project.clone(), args.listen.is_none());
    let begun = Begun { project, config, before, assembly, starting, watching, capture, predictions, listen };
    let reloads = reload::start(begun, current.clone())?;
    let told = if global.json {
        format!("{{\"listening\":\"http://{at}\"}}")
    } else {
        format!("listening on http://{at}")
    };
    let stops = stops()?;
    super::print(&told);
    let open = gateway::serve(current, listening, stops).await;
    if open > 0 {
        tracing::warn!(open, "answers were still under way at the end of the drain and were cut");
    }
    drop(reloads);
    opened.close().await
}

/// SIGTERM and Ctrl-C, each time.
fn stops() -> Result<impl Stream<Item = ()>, Error> {
    let both = (heard(SignalKind::terminate())?, heard(SignalKind::interrupt())?);
    Ok(stream::unfold(both, async |(mut term, mut interrupt)| {
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        Some(((), (term, interrupt)))
    }))
}

//! `forebay-llama`: llama.cpp in a process of its own, behind the OpenAI chat protocol on a Unix socket.
//!
//! A crash of llama.cpp takes nobody with it, and an idle worker can simply be stopped. The process that starts it waits for
//! the line `ready` on stdout. One thread owns the llama.cpp context ([`engine`]); HTTP runs beside it ([`http`]).

mod engine;
mod error;
mod http;
mod protocol;
mod sampling;
mod server;
mod slots;
mod stop;
mod template;
mod utf8;

use std::{
    io::IsTerminal as _,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64, mpsc},
    thread,
};

use anyhow::{Context as _, bail};
use clap::Parser;
use llama_cpp_2::{
    LogOptions, llama_backend::LlamaBackend, model::LlamaModel, model::params::LlamaModelParams,
};
use tokio::sync::{Semaphore, oneshot};
use tracing_subscriber::EnvFilter;

use crate::{engine::Settings, http::App, template::ChatTemplate};

/// The variable with the log filter.
const LOG: &str = "FOREBAY_LOG";

/// Serves a GGUF model by the OpenAI chat protocol over a Unix socket.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// The model file (GGUF).
    #[arg(long)]
    model: PathBuf,
    /// The Unix socket to listen on. A stale file there is replaced.
    #[arg(long)]
    socket: PathBuf,
    /// The name the model goes by; the file's name without its ending if absent.
    #[arg(long)]
    alias: Option<String>,
    /// Tokens of the whole KV cache, split evenly over the sequences.
    #[arg(long, default_value = "8192")]
    context: NonZeroU32,
    /// Sequences decoded at the same time (1–256).
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256))]
    parallel: u32,
    /// Requests that may wait for a sequence; more are answered 503.
    #[arg(long, default_value_t = 64)]
    queue: u32,
    /// Threads of llama.cpp; as many as there are cores if absent.
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=512))]
    threads: Option<i32>,
    /// Exit when stdin reaches its end, that is when the parent is gone.
    #[arg(long)]
    exit_with_parent: bool,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let filter = EnvFilter::try_from_env(LOG)
        .unwrap_or_else(|_| EnvFilter::new("info,llama-cpp-2=warn,llama_cpp_2=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    llama_cpp_2::send_logs_to_tracing(LogOptions::default());
    if flags.exit_with_parent {
        server::exit_with_parent()?;
    }
    run(flags)
}

fn run(flags: Flags) -> anyhow::Result<()> {
    let mut backend = LlamaBackend::init().context("failed to start llama.cpp")?;
    let model = Arc::new(load(&backend, &flags.model)?);
    let parallel = NonZeroU32::new(flags.parallel).context("--parallel must be at least 1")?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let settings = Settings {
        context: flags.context,
        parallel,
        threads: flags.threads.unwrap_or(i32::try_from(cores).unwrap_or(1)),
        verbose: std::env::var_os(LOG).is_some(),
    };

    let places =
        usize::try_from(flags.parallel.saturating_add(flags.queue)).unwrap_or(Semaphore::MAX_PERMITS);
    let (jobs, received) = mpsc::sync_channel(places);
    let (started, starting) = oneshot::channel();
    let (ended, ending) = oneshot::channel();
    let engine_model = Arc::clone(&model);
    let engine = thread::Builder::new().name("engine".to_owned()).spawn(move || {
        // Dropped at the end, also by a panic: the server learns of it.
        let _ended: oneshot::Sender<()> = ended;
        engine::serve(&mut backend, &engine_model, settings, &received, started);
    })?;
    let limit = starting.blocking_recv().context("the engine ended while it started")??;

    let stem = flags
        .model
        .file_stem()
        .map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let app = App {
        template: ChatTemplate::of(&model),
        model,
        alias: flags.alias.unwrap_or(stem),
        limit,
        jobs,
        places: Arc::new(Semaphore::new(places)),
        started: http::unix_seconds(),
        requests: AtomicU64::new(0),
    };
    tracing::info!(
        model = app.alias,
        parallel = flags.parallel,
        tokens_per_sequence = limit,
        threads = settings.threads,
        "loaded"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(server::serve(app, &flags.socket, ending));
    // Handlers hold the sender of jobs; without them the engine ends.
    drop(runtime);
    if engine.join().is_err() {
        bail!("the engine panicked");
    }
    served
}

fn load(backend: &LlamaBackend, path: &Path) -> anyhow::Result<LlamaModel> {
    if !path.is_file() {
        bail!("no model file at {}: give the path of a GGUF file with --model", path.display());
    }
    LlamaModel::load_from_file(backend, path, &LlamaModelParams::default())
        .with_context(|| format!("failed to load {}: is it a whole GGUF file?", path.display()))
}

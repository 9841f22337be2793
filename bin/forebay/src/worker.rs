//! The local model's worker process: started by the first call, restarted after a crash, stopped when idle.
//!
//! Stopped → starting (spawn, wait for `ready`) → running → stopped (exit, crash or idle). A crash ends the streams of
//! its callers with an upstream error; it takes nothing else with it. A failed start is not repeated within its backoff.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use contract::{BoxFuture, Code, Error, RetryHint};
use llm::codec::openai::Dialect;
use llm::{Attempt, ChatModel, ChatRequest, DeltaStream};
use pipeline::task;
use providers::{Client, EndpointSettings, OpenAiEndpoint};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// How long loading a model may take.
const START: Duration = Duration::from_secs(60);

/// What a worker is started with.
#[derive(Debug, Clone)]
pub(crate) struct WorkerSettings {
    /// The GGUF file.
    pub(crate) model: PathBuf,
    /// The model's name.
    pub(crate) alias: String,
    /// Where its socket is put.
    pub(crate) folder: PathBuf,
    /// Tokens of one sequence.
    pub(crate) context: Option<u64>,
    /// Sequences at once.
    pub(crate) parallel: Option<u64>,
    /// Threads; one for each core when not given.
    pub(crate) threads: Option<u64>,
    /// Stop after this long without a call.
    pub(crate) idle_stop: Option<Duration>,
}

/// A model answered by a worker process of our own.
pub(crate) struct LocalModel {
    endpoint: OpenAiEndpoint,
    settings: WorkerSettings,
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    /// Counts calls: the idle watch stops the worker when it has not moved.
    calls: u64,
    /// Whether an idle watch runs.
    idle: Option<task::Task<()>>,
}

impl LocalModel {
    /// A worker that is not running yet.
    ///
    /// # Errors
    /// Never for a socket path; the type is the provider's.
    pub(crate) fn new(settings: WorkerSettings, client: Client) -> Result<Self, providers::Error> {
        let socket = socket(&settings);
        let endpoint = EndpointSettings {
            base_url: "http://worker/v1".to_owned(),
            unix_socket: Some(socket.clone()),
            api_key: None,
            model: settings.alias.clone(),
            headers: Vec::new(),
        };
        let endpoint = OpenAiEndpoint::new(client, &endpoint, Dialect::default())?;
        Ok(LocalModel { endpoint, settings, socket, state: Arc::default() })
    }

    /// Makes sure that the worker runs.
    async fn running(&self) -> Result<(), Error> {
        let mut state = self.state.lock().await;
        state.calls += 1;
        let alive = match &mut state.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        };
        if !alive {
            if let Some(dead) = state.child.take() {
                tracing::warn!(model = %self.settings.alias, pid = dead.id(), "the worker had stopped; starting another");
            }
            state.child = Some(self.start().await?);
        }
        if state.idle.as_ref().is_none_or(task::Task::is_finished) {
            state.idle =
                self.settings.idle_stop.map(|after| task::spawn("idle", idle(self.state.clone(), after)));
        }
        Ok(())
    }

    async fn start(&self) -> Result<Child, Error> {
        let s = &self.settings;
        let failed = |what: String| Error::new(Code::WorkerCrashed, what).retry(RetryHint::Elsewhere);
        if !s.model.exists() {
            return Err(failed(format!(
                "the file of model `{}` is not there: `forebay check` says where it is looked for",
                s.alias
            )));
        }
        std::fs::create_dir_all(&s.folder)
            .map_err(|e| failed(format!("the worker's folder cannot be made: {e}")))?;
        let parallel = s.parallel.unwrap_or(4).max(1);
        let mut command = Command::new(binary());
        command.arg("--model").arg(&s.model).arg("--socket").arg(&self.socket).arg("--alias").arg(&s.alias);
        command.arg("--context").arg((s.context.unwrap_or(4_096) * parallel).to_string());
        command.arg("--parallel").arg(parallel.to_string());
        if let Some(n) = s.threads {
            command.arg("--threads").arg(n.to_string());
        }
        command.arg("--exit-with-parent");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| {
            failed(format!("the worker `forebay-llama` cannot be started ({e}): build it with `make build`"))
        })?;
        let Some(out) = child.stdout.take() else {
            return Err(failed("the worker has no output".to_owned()));
        };
        let mut line = String::new();
        let mut lines = BufReader::new(out);
        let ready = tokio::time::timeout(START, lines.read_line(&mut line)).await;
        match ready {
            Ok(Ok(n)) if n > 0 && line.trim() == "ready" => Ok(child),
            Ok(_) => Err(failed(format!(
                "the worker of model `{}` stopped while loading; its log says why",
                s.alias
            ))),
            Err(_) => Err(failed(format!("the worker of model `{}` did not load within {START:?}", s.alias))),
        }
    }
}

/// Stops the worker once a whole period passes without a call.
async fn idle(state: Arc<Mutex<State>>, after: Duration) {
    let mut seen = None;
    loop {
        task::sleep(after).await;
        let mut state = state.lock().await;
        if seen == Some(state.calls) {
            if let Some(mut child) = state.child.take() {
                let _ = child.kill().await;
            }
            return;
        }
        seen = Some(state.calls);
    }
}

impl ChatModel for LocalModel {
    fn start<'a>(
        &'a self,
        request: &'a ChatRequest,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<DeltaStream, Error>> {
        Box::pin(async move {
            self.running().await?;
            match self.endpoint.start(request, attempt).await {
                Err(e) if e.code == Code::UpstreamUnreachable => {
                    let m = format!("the worker of model `{}` crashed", self.settings.alias);
                    Err(Error { message: m, code: Code::WorkerCrashed, ..e })
                }
                other => other,
            }
        })
    }
}

/// The worker's binary: beside this one, else on the PATH.
fn binary() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("forebay-llama")));
    beside.filter(|p| p.exists()).unwrap_or_else(|| PathBuf::from("forebay-llama"))
}

/// The socket's path: in the project, or, where that would be too long for a socket, in the folder for temporary files.
fn socket(s: &WorkerSettings) -> PathBuf {
    let name = format!("{}-{}.sock", s.alias, std::process::id());
    let own = s.folder.join(&name);
    if own.as_os_str().len() < 100 { own } else { std::env::temp_dir().join(format!("forebay-{name}")) }
}

//! The local model's worker process: started by the first call, restarted after a crash, stopped when idle.
//!
//! Stopped → starting (spawn, wait for `ready`) → running → stopped (exit, crash or idle). A crash ends the streams of
//! its callers with `worker_crashed`; it takes nothing else with it. The next call starts another: at once after the
//! first crash, after a growing pause when it crashes or fails to start again and again. Idle is who has no caller. A start
//! belongs to the worker, not to the caller who caused it: who leaves meanwhile takes nothing from those who wait.
//!
//! The process lives as long as somebody holds its [`State`]: the model of the configuration, and every answer. So the worker
//! of a model that the configuration no longer has is stopped by the end of its last answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use contract::{BoxFuture, Code, Error, RetryHint};
use futures_util::StreamExt;
use llm::codec::openai::Dialect;
use llm::{Attempt, ChatModel, ChatRequest, DeltaStream};
use pipeline::task;
use providers::{Client, EndpointSettings, OpenAiEndpoint};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long loading a model may take.
const START: Duration = Duration::from_secs(60);

/// The pause before the start after a second crash in a row; it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A worker that ran for so long was well: its crash is the first.
const STABLE: Duration = Duration::from_secs(60);

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
    /// Calls under way.
    users: Arc<AtomicUsize>,
}

/// A call under way, from before the worker is asked until its answer is dropped.
struct Using {
    users: Arc<AtomicUsize>,
    /// The process stays for it.
    _state: Arc<Mutex<State>>,
}

impl Using {
    fn start(users: &Arc<AtomicUsize>, state: &Arc<Mutex<State>>) -> Self {
        users.fetch_add(1, Ordering::AcqRel);
        Using { users: users.clone(), _state: state.clone() }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        self.users.fetch_sub(1, Ordering::AcqRel);
    }
}

impl State {
    /// Whether it is being started.
    fn is_starting(&self) -> bool {
        self.starting.as_ref().is_some_and(|s| s.ended.borrow().is_none() && !s.task.is_finished())
    }

    /// It crashed or did not start.
    fn failed(&mut self, now: Instant) {
        if self.since.take().is_some_and(|t| now.duration_since(t) >= STABLE) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + pause(self.failures));
    }
}

/// How long to wait before the next start after so many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(2) {
        None => Duration::ZERO,
        Some(n) => PAUSE.saturating_mul(2_u32.saturating_pow(n)).min(LONGEST_PAUSE),
    }
}

/// A socket's file, removed by the drop.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[derive(Default)]
struct State {
    /// Killed by the drop.
    child: Option<Child>,
    /// A killed worker leaves its socket behind.
    _file: Option<SocketFile>,
    /// When it last became ready.
    since: Option<Instant>,
    /// Crashes and failed starts in a row.
    failures: u32,
    /// No start before this.
    not_before: Option<Instant>,
    /// Counts calls: the idle watch stops the worker when it has not moved.
    calls: u64,
    /// Whether an idle watch runs.
    idle: Option<task::Task<()>>,
    /// The last start.
    starting: Option<Starting>,
}

/// A start of the worker.
struct Starting {
    task: task::Task<()>,
    /// How it ended, once it has.
    ended: watch::Receiver<Option<Result<(), Error>>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let state = State { _file: Some(SocketFile(socket.clone())), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        Ok(LocalModel { endpoint, settings, socket, state, users: Arc::default() })
    }

    /// The model's file.
    pub(crate) fn file(&self) -> &std::path::Path {
        &self.settings.model
    }

    /// `stopped`, `starting` or `running`, and the process. Never waits.
    pub(crate) fn state(&self) -> (&'static str, Option<u32>) {
        let mut state = lock(&self.state);
        let pid =
            state.child.as_mut().and_then(|c| matches!(c.try_wait(), Ok(None)).then(|| c.id()).flatten());
        match pid {
            Some(_) => ("running", pid),
            None if state.is_starting() => ("starting", None),
            None => ("stopped", None),
        }
    }

    /// Makes sure that the worker runs: waits for its start, together with whoever else does.
    async fn running(&self) -> Result<(), Error> {
        let Some(mut start) = self.start_unless_running() else { return Ok(()) };
        match start.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(ended)) => ended.clone(),
            _ => {
                let m = format!("the start of model `{}`'s worker was given up", self.settings.alias);
                Err(Error::new(Code::WorkerCrashed, m).retry(RetryHint::Elsewhere))
            }
        }
    }

    /// The start that is to be waited for; `None` when the worker runs.
    fn start_unless_running(&self) -> Option<watch::Receiver<Option<Result<(), Error>>>> {
        let mut state = lock(&self.state);
        state.calls += 1;
        if state.idle.as_ref().is_none_or(task::Task::is_finished) {
            state.idle = self.settings.idle_stop.map(|after| {
                task::spawn("idle", idle(Arc::downgrade(&self.state), self.users.clone(), after))
            });
        }
        if state.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return None;
        }
        if !state.is_starting() {
            if state.child.take().is_some() {
                state.failed(Instant::now());
                let failures = state.failures;
                tracing::warn!(model = %self.settings.alias, failures, "the worker had stopped; starting another");
            }
            let (tell, ended) = watch::channel(None);
            let (settings, socket) = (self.settings.clone(), self.socket.clone());
            let work = bring_up(Arc::downgrade(&self.state), settings, socket, state.not_before, tell);
            state.starting = Some(Starting { task: task::spawn("worker", work), ended });
        }
        state.starting.as_ref().map(|s| s.ended.clone())
    }
}

/// Starts the worker once it may be, notes how that went, and tells who waits.
async fn bring_up(
    state: Weak<Mutex<State>>,
    settings: WorkerSettings,
    socket: PathBuf,
    not_before: Option<Instant>,
    tell: watch::Sender<Option<Result<(), Error>>>,
) {
    if let Some(at) = not_before {
        tokio::time::sleep_until(at).await;
    }
    let started = start(&settings, &socket).await;
    let Some(state) = state.upgrade() else { return };
    let mut state = lock(&state);
    let ended = match started {
        Ok(child) => {
            (state.child, state.since) = (Some(child), Some(Instant::now()));
            Ok(())
        }
        Err(e) => {
            state.failed(Instant::now());
            Err(e)
        }
    };
    tell.send_replace(Some(ended));
}

/// A process that has loaded its model.
async fn start(s: &WorkerSettings, socket: &Path) -> Result<Child, Error> {
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
    let mut command = Command::new(beside("forebay-llama"));
    command.arg("--model").arg(&s.model).arg("--socket").arg(socket).arg("--alias").arg(&s.alias);
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
        Ok(_) => {
            Err(failed(format!("the worker of model `{}` stopped while loading; its log says why", s.alias)))
        }
        Err(_) => Err(failed(format!("the worker of model `{}` did not load within {START:?}", s.alias))),
    }
}

/// Stops the worker once a whole period passes without a call, and none is under way.
async fn idle(state: Weak<Mutex<State>>, users: Arc<AtomicUsize>, after: Duration) {
    let mut seen = None;
    loop {
        task::sleep(after).await;
        let stopped = {
            let Some(state) = state.upgrade() else { return };
            let mut state = lock(&state);
            // A call adds itself before it takes the lock: who is not seen here starts the worker again.
            if users.load(Ordering::Acquire) > 0 || state.is_starting() {
                seen = None;
                continue;
            }
            if seen.replace(state.calls) != Some(state.calls) {
                continue;
            }
            // The next worker gets a watch of its own, and this one is killed before the lock is free.
            if let Some(own) = state.idle.take() {
                own.detach();
            }
            state.child.take().map(|mut child| {
                let _ = child.start_kill();
                child
            })
        };
        if let Some(mut child) = stopped {
            let _ = child.wait().await;
        }
        return;
    }
}

impl ChatModel for LocalModel {
    fn start<'a>(
        &'a self,
        request: &'a ChatRequest,
        attempt: &'a Attempt,
    ) -> BoxFuture<'a, Result<DeltaStream, Error>> {
        Box::pin(async move {
            let using = Using::start(&self.users, &self.state);
            self.running().await?;
            let alias = self.settings.alias.clone();
            match self.endpoint.start(request, attempt).await {
                Ok(answer) => Ok(Box::pin(answer.map(move |delta| {
                    // Held as long as the answer is.
                    let _using = &using;
                    delta.map_err(|e| crashed(&alias, e))
                })) as DeltaStream),
                Err(e) => Err(crashed(&alias, e)),
            }
        })
    }
}

/// A worker's connection breaks only with the worker.
fn crashed(alias: &str, e: Error) -> Error {
    match e.code {
        Code::UpstreamUnreachable | Code::UpstreamTruncated => {
            let message = format!("the worker of model `{alias}` crashed");
            Error { message, code: Code::WorkerCrashed, ..e }
        }
        _ => e,
    }
}

/// A worker's program: beside this one, else on the PATH.
pub(crate) fn beside(name: &str) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    beside.filter(|p| p.exists()).unwrap_or_else(|| PathBuf::from(name))
}

/// The socket's path: in the project, or, where that would be too long for a socket, in the folder for temporary files.
fn socket(s: &WorkerSettings) -> PathBuf {
    // A model that changes has another worker before the one before has ended.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{}-{number}.sock", s.alias, std::process::id());
    let own = s.folder.join(&name);
    if own.as_os_str().len() < 100 { own } else { std::env::temp_dir().join(format!("forebay-{name}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_crash_costs_no_pause_and_later_ones_ever_more_up_to_a_bound() {
        let ms: Vec<u128> = (1..=4).map(|n| pause(n).as_millis()).collect();
        assert_eq!(ms, [0, 500, 1_000, 2_000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }

    #[test]
    fn a_worker_that_ran_well_for_long_starts_its_count_anew() {
        let start = Instant::now();
        let mut state = State { since: Some(start), failures: 5, ..State::default() };
        state.failed(start + Duration::from_secs(1));
        assert_eq!(state.failures, 6);
        state.since = Some(start);
        state.failed(start + STABLE);
        assert_eq!((state.failures, state.not_before), (1, Some(start + STABLE)));
    }
}

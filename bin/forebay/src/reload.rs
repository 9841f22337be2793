//! Another configuration under a running server: read, checked, and put in place, or refused with what was in force still there.
//!
//! One task does it, one attempt at a time, when it is asked to (SIGHUP, an operator) or when something happens to the files
//! (many events in a short time are one attempt, begun when they are over). Nothing is put in place that was not read twice
//! alike, so that the last state of a file that is being written always wins. A server that is about to end changes nothing.
//!
//! Requests under way go on with what they began with: see [`gateway::Current`].

mod bounded;
mod changes;
mod files;
pub(crate) mod watch;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use contract::{BoxFuture, Clock, SystemClock};
use gateway::{ConfigProblem, ConfigRefusal, ConfigState, Configuration, Current, Reloaded};
use pipeline::task::{self, Task};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::Error;
use crate::assembly::{Assembly, Made};
use crate::capture::Capture;
use crate::config::{self, Config, Env, FILE, Problem, problem};
use crate::predictions::Predictions;
use crate::starting::Starting;
use crate::watching::Watching;
use crate::wiring;
use bounded::Bounded;
use files::Files;
use watch::Watch;

/// Events that are no further apart than this are one change.
const QUIET: Duration = Duration::from_millis(150);
/// A change that goes on for longer is looked at all the same.
const LONGEST: Duration = Duration::from_secs(2);
/// How long the files may take to be read: one that hangs (a network mount whose server is gone) is refused.
const READ: Duration = Duration::from_secs(10);
/// How often files that change while they are read are read again.
const TRIES: usize = 5;
/// Problems that are logged one by one.
const LOGGED: usize = 20;

/// What the files said before the configuration was read for the first time.
pub(crate) struct Before(Files);

impl Before {
    /// To be asked before.
    pub(crate) fn of(project: &std::path::Path) -> Before {
        Before(Files::every(project))
    }
}

/// What a server began with.
pub(crate) struct Begun {
    pub(crate) project: PathBuf,
    pub(crate) config: Config,
    pub(crate) before: Before,
    pub(crate) assembly: Assembly,
    pub(crate) starting: Arc<Starting>,
    pub(crate) watching: Arc<Watching>,
    pub(crate) capture: Option<Arc<Capture>>,
    pub(crate) predictions: Predictions,
    /// Whether it listens where the configuration says.
    pub(crate) listen: bool,
}

type Answer = oneshot::Sender<Result<Reloaded, ConfigRefusal>>;

/// What the task shares with whoever asks.
struct Handle {
    state: Arc<RwLock<ConfigState>>,
    asks: mpsc::Sender<Answer>,
}

impl Configuration for Handle {
    fn state(&self) -> ConfigState {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ConfigRefusal>> {
        Box::pin(async {
            let (answer, answered) = oneshot::channel();
            let ended = || ConfigRefusal {
                at: SystemClock::default().wall(),
                message: "the server is shutting down".to_owned(),
                problems: Vec::new(),
            };
            self.asks.send(answer).await.map_err(|_| ended())?;
            answered.await.unwrap_or_else(|_| Err(ended()))
        })
    }
}

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Signal,
    Operator,
    Files,
}

struct Reloads {
    current: Current,
    project: PathBuf,
    assembly: Assembly,
    starting: Arc<Starting>,
    watching: Arc<Watching>,
    capture: Option<Arc<Capture>>,
    predictions: Predictions,
    /// What the server began with.
    began: Config,
    listen: bool,
    /// What is in force.
    config: Config,
    /// The files of the last attempt.
    files: Files,
    state: Arc<RwLock<ConfigState>>,
    asks: mpsc::Receiver<Answer>,
    hangups: Signal,
    /// That something happened to the files.
    events: mpsc::Receiver<()>,
    tell: mpsc::Sender<()>,
    watch: Option<Watch>,
    bounded: Bounded,
}

/// A sound configuration, read.
struct Sound {
    config: Config,
    made: Made,
    files: Files,
}

/// Starts the task, which ends with what is returned.
///
/// # Errors
/// Signals cannot be heard.
pub(crate) fn start(begun: Begun, current: Current) -> Result<Task<()>, Error> {
    let Begun { project, config, before, assembly, starting, watching, capture, predictions, listen } = begun;
    let files = Files::of(&project, &config, &wiring::kinds_for_check(&project)).with(&before.0);
    let hangups = signal(SignalKind::hangup())
        .map_err(|e| Error::new(format!("cannot hear signals: {e}"), "check this user's limits"))?;
    let (tell, events) = mpsc::channel(1);
    // What happened since the files were read is looked at first.
    let _ = tell.try_send(());
    let state = Arc::new(RwLock::new(ConfigState {
        version: files.version(),
        loaded_at: SystemClock::default().wall(),
        watched: false,
        needs_restart: Vec::new(),
        refused: None,
    }));
    let (ask, asks) = mpsc::channel(16);
    current.app().configured_by(Arc::new(Handle { state: state.clone(), asks: ask }));
    let mut reloads = Reloads {
        current,
        project,
        assembly,
        starting,
        watching,
        capture,
        predictions,
        began: config.clone(),
        listen,
        config,
        files,
        state,
        asks,
        hangups,
        events,
        tell,
        watch: None,
        bounded: Bounded::new(READ),
    };
    let folders = reloads.files.folders(&reloads.project);
    reloads.follow_in(folders);
    reloads.state_mut(|s| s.watched = reloads.watch.is_some());
    Ok(task::spawn("reload", reloads.run()))
}

impl Reloads {
    async fn run(mut self) {
        loop {
            let (by, answer) = tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(answer) => (By::Operator, Some(answer)),
                    None => return,
                },
                Some(()) = self.hangups.recv() => (By::Signal, None),
                Some(()) = self.events.recv() => (By::Files, None),
            };
            if by == By::Files {
                self.settled().await;
            }
            if self.current.app().is_draining() {
                tracing::info!("the server is about to end: its configuration stays as it is");
                continue;
            }
            let result = match by {
                By::Files if !self.has_changed().await => continue,
                _ => self.attempt(by).await,
            };
            if let Some(answer) = answer {
                // Who asked may have left.
                let _ = answer.send(result);
            }
        }
    }

    /// Waits until nothing more happens to the files.
    async fn settled(&mut self) {
        let last = Instant::now() + LONGEST;
        while Instant::now() < last
            && let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await
        {}
    }

    /// Whether there is something to do about what happened. What was refused may be sound now by a file that nobody knew of.
    async fn has_changed(&mut self) -> bool {
        if self.state.read().unwrap_or_else(PoisonError::into_inner).refused.is_some() {
            return self.config.server.watch;
        }
        let (project, files) = (self.project.clone(), self.files.clone());
        let now = self.bounded.read(move || files.again(&project)).await;
        let now = now.inspect_err(|e| tracing::warn!(error = %e, "the configuration stays as it is"));
        let changed = self.config.server.watch && now.is_ok_and(|now| now != self.files);
        if !changed {
            // A folder may have been replaced by another with the same in it.
            self.follow().await;
        }
        changed
    }

    /// Looks where the files are now, if it is to.
    async fn follow(&mut self) {
        let (project, files) = (self.project.clone(), self.files.clone());
        // Where that cannot be found out the folders of before are looked at.
        if let Ok(folders) = self.bounded.read(move || files.folders(&project)).await {
            self.follow_in(folders);
        }
    }

    fn follow_in(&mut self, folders: BTreeSet<PathBuf>) {
        if !self.config.server.watch {
            self.watch = None;
            return;
        }
        if self.watch.is_none() {
            self.watch = Watch::start(self.tell.clone())
                .inspect_err(|e| {
                    tracing::warn!(error = %e, "changes of the files will not be noticed: send SIGHUP instead");
                })
                .ok();
        }
        if self.watch.as_mut().is_some_and(|w| w.follow(folders)) {
            // What happened there before is looked at once more.
            let _ = self.tell.try_send(());
        }
    }

    fn state_mut(&self, change: impl FnOnce(&mut ConfigState)) {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reads the configuration, and puts it in place when it is sound.
    async fn attempt(&mut self, by: By) -> Result<Reloaded, ConfigRefusal> {
        let (project, assembly, known) = (self.project.clone(), self.assembly.clone(), self.files.clone());
        let read = self.bounded.read(move || read(&project, &assembly, &known)).await;
        let read = read.unwrap_or_else(|e| Err((Refused::other(&e), self.files.clone())));
        let (sound, files) = match read {
            Ok(Sound { config, made, files }) => match self.assembly.put(made, &self.current).await {
                Ok(()) => {
                    self.starting.replan(&config);
                    self.watching.replan(&config);
                    if let Some(capture) = &self.capture {
                        capture.replan(&config);
                    }
                    self.predictions.apply(&config);
                    (Ok(config), files)
                }
                Err(e) => (Err(Refused::other(&e.to_string())), files),
            },
            Err((refused, files)) => (Err(refused), files),
        };
        let before = std::mem::replace(&mut self.files, files);
        match sound {
            Ok(config) => Ok(self.applied(by, config, &before).await),
            Err(refused) => {
                self.follow().await;
                Err(self.refused(by, refused))
            }
        }
    }

    async fn applied(&mut self, by: By, config: Config, before: &Files) -> Reloaded {
        let changed = changes::changes(&self.config, &config, before, &self.files);
        let needs_restart = changes::needs_restart(&self.began, &config, self.listen);
        self.config = config;
        self.follow().await;
        let state = ConfigState {
            version: self.files.version(),
            loaded_at: SystemClock::default().wall(),
            watched: self.watch.is_some(),
            needs_restart,
            refused: None,
        };
        self.state_mut(|s| *s = state.clone());
        self.current.app().reloaded(true);
        let (version, what) = (&state.version, changed.join(", "));
        tracing::info!(?by, %version, changed = %what, "the configuration was loaded");
        if !state.needs_restart.is_empty() {
            tracing::warn!(settings = %state.needs_restart.join(", "), "these need a restart to change");
        }
        Reloaded { config: state, changed }
    }

    fn refused(&self, by: By, Refused { message, problems }: Refused) -> ConfigRefusal {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let said = by == By::Files && state.refused.as_ref().is_some_and(|r| r.message == message);
        if let (true, Some(before)) = (said, &state.refused) {
            // The same file was refused for the same reason: something else happened beside it.
            return before.clone();
        }
        for p in problems.iter().take(LOGGED) {
            tracing::error!("{FILE}:{}:{}: {}; {}", p.line, p.column, p.message, p.remedy);
        }
        let why = if problems.is_empty() { message.as_str() } else { "see the problems above" };
        tracing::error!(
            ?by,
            problems = problems.len(),
            "the configuration is refused, and the one before stays in force: {why}"
        );
        let refusal = ConfigRefusal { at: SystemClock::default().wall(), message, problems };
        state.refused = Some(refusal.clone());
        drop(state);
        self.current.app().reloaded(false);
        refusal
    }
}

/// Why a configuration is not put in place.
struct Refused {
    message: String,
    problems: Vec<ConfigProblem>,
}

impl Refused {
    fn other(message: &str) -> Refused {
        Refused { message: message.to_owned(), problems: Vec::new() }
    }

    /// As `forebay check` prints them.
    fn problems(shown: &str, problems: &[Problem]) -> Refused {
        let one = |p: &Problem| ConfigProblem {
            line: p.line,
            column: p.column,
            path: p.path.clone(),
            message: p.message.clone(),
            remedy: p.remedy.clone(),
        };
        let message = problem::render(FILE, shown, problems).trim_end().to_owned();
        Refused { message, problems: problems.iter().map(one).collect() }
    }
}

/// Reads and makes everything until nothing has changed meanwhile. With a refusal come the files it is about.
fn read(project: &std::path::Path, assembly: &Assembly, known: &Files) -> Result<Sound, (Refused, Files)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let result = read_once(project, assembly, known);
        let files = match &result {
            Ok(sound) => &sound.files,
            Err((_, files)) => files,
        };
        if tries >= TRIES || *files == files.again(project) {
            return result;
        }
    }
}

fn read_once(
    project: &std::path::Path,
    assembly: &Assembly,
    known: &Files,
) -> Result<Sound, (Refused, Files)> {
    let before = Files::every(project);
    let registry = wiring::kinds_for_check(project);
    let checked = config::load(project, &Env::of_process(project), &registry);
    let refused = |why: Refused| (why, known.again(project).with(&before));
    let checked = checked.map_err(|e| {
        let error = Error::file("read", &project.join(FILE), &e);
        refused(Refused::other(&error.to_string()))
    })?;
    let Some(config) = checked.config.filter(|_| checked.problems.is_empty()) else {
        return Err(refused(Refused::problems(&checked.shown, &checked.problems)));
    };
    let files = Files::of(project, &config, &registry).with(&before);
    match assembly.make(&config) {
        Ok(made) => Ok(Sound { config, made, files }),
        Err(e) => Err((Refused::other(&e.to_string()), files)),
    }
}

//! What predictive models were asked and answered, and what turned out to be true of it, as datasets: `captured_MODEL` with a row for
//! each row that was asked, and `feedback`, joined with it by `id` and `row`.
//!
//! ```text
//! answered ─▶ queue ─ room ─▶ spool (a file) ─ a minute, or many rows ─▶ a version of the dataset ─▶ the file is removed
//!               └─ none ─▶ dropped, and counted
//! told ─▶ spool, on disk ─▶ acknowledged
//! ```
//!
//! An answer never waits: it is off the path before the first row is made. A server that is killed loses the answers of the last
//! moment at most, and no feedback that was acknowledged; what is in a spool becomes a version once, since the commit knows the name of
//! its file. What is refused by its dataset stays beside it as a file that ends in `.refused`.

mod spool;
mod upkeep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use contract::{BoxFuture, Clock, Code, Error, UnixMillis};
use data::{Change, ColumnType, Dataset, Effect, Source};
use parking_lot::Mutex;
use pipeline::task::{self, Behind, Task};
use predict::captured;
use predict::observe::{Answered, Observer, Told};
use tokio::sync::{mpsc, oneshot};

use crate::config::capture::CaptureConfig;
use crate::config::{Config, Env};
use crate::datasets::Lazily;
use spool::{Spool, Spools};
use upkeep::Upkeep;

/// Answers that wait to be made rows: with what is taken out each [`FLUSH`], eighty thousand a second.
const WAITING: usize = 8_192;
/// Bytes of what they were given and said, those that are being written too.
const BYTES: usize = 64 << 20;
/// Feedback that waits to be on disk, in requests.
const TELLING: usize = 1_024;
/// How long what came waits before it is in a file.
const FLUSH: Duration = Duration::from_millis(100);
/// How often there is a look at whether files are to become versions.
const LOOK: Duration = Duration::from_secs(1);
/// How long a file that could not become a version is left alone.
const AGAIN: i64 = 30_000;
/// The dataset of feedback.
pub const FEEDBACK: &str = "feedback";

/// How the names of datasets begin that hold what models were asked.
pub(crate) const CAPTURED: &str = "captured_";

/// The dataset of a model's answers.
pub fn dataset(model: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') { c } else { '_' };
    format!("{CAPTURED}{}", model.chars().map(plain).collect::<String>())
}

/// Where what is kept waits to become versions.
fn folder(project: &Path) -> PathBuf {
    project.join(".forebay").join("capture")
}

/// Since when answers of a model, or what was told of them, wait that are no rows of their datasets yet.
pub fn waiting(project: &Path, dataset: &str) -> Option<UnixMillis> {
    let folder = folder(project);
    [dataset, FEEDBACK].into_iter().filter_map(|dataset| spool::waiting(&folder, dataset)).min()
}

type Acknowledge = oneshot::Sender<Result<(), String>>;

/// Keeps what it sees. It ends with this.
pub struct Capture {
    seen: Arc<Seen>,
    work: Mutex<Vec<Task<()>>>,
}

struct Seen {
    models: Mutex<Arc<BTreeMap<String, CaptureConfig>>>,
    answers: mpsc::Sender<(Arc<Answered>, CaptureConfig)>,
    telling: mpsc::Sender<(Vec<Told>, Acknowledge)>,
    dropped: AtomicU64,
    /// Bytes of answers that wait.
    bytes: AtomicUsize,
}

impl Capture {
    /// Begins to keep what the configuration says. Needs a runtime; versions are made on threads that yield to callers.
    pub fn begin(
        config: &Config,
        project: PathBuf,
        env: Env,
        clock: Arc<dyn Clock>,
        behind: &Behind,
    ) -> Capture {
        let (answers, answered) = mpsc::channel(WAITING);
        let (telling, told) = mpsc::channel(TELLING);
        let models = Mutex::new(Arc::new(config.capture.clone().into_iter().collect()));
        let seen = Arc::new(Seen {
            models,
            answers,
            telling,
            dropped: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
        });
        let folder = folder(&project);
        let spools = Spools::new(folder.clone(), clock.clone());
        let telling = task::spawn("feedback", tell(told, (spools.beside(), Arc::downgrade(&seen))));
        // Rows are made on threads that yield: where there is no time for them, they are dropped and counted.
        let writing = behind.spawn("capture", write(answered, (spools, Arc::downgrade(&seen))));
        let upkeep = Upkeep::new(Arc::downgrade(&seen));
        let versions = Versions { warehouse: Lazily::of(project, config, env, clock.clone()), clock, upkeep };
        let committing = behind.spawn("capture", versions.work(folder));
        Capture { seen, work: Mutex::new(vec![telling, writing, committing]) }
    }

    /// Who looks at answers.
    pub fn observer(&self) -> Arc<dyn Observer> {
        self.seen.clone()
    }

    /// Another configuration is in force.
    pub fn replan(&self, config: &Config) {
        let models = Arc::new(config.capture.clone().into_iter().collect());
        *self.seen.models.lock() = models;
    }

    /// Answers that there was no room for.
    pub fn dropped(&self) -> u64 {
        self.seen.dropped.load(Ordering::Relaxed)
    }

    /// Keeps nothing more. What is in files becomes versions when the next server begins.
    pub fn stop(&self) {
        self.work.lock().clear();
    }
}

impl Seen {
    /// How often feedback becomes a version: as often as the answers that it is of.
    fn soonest(&self) -> Duration {
        let all = self.models.lock();
        all.values().map(|config| config.every.0).min().unwrap_or(CaptureConfig::default().every.0)
    }
}

impl Observer for Seen {
    fn looks_at(&self, model: &str, id: &str) -> bool {
        let models = self.models.lock().clone();
        models.get(model).is_some_and(|config| sampled(id, config.sample))
    }

    fn answered(&self, answered: &Arc<Answered>) {
        let models = self.models.lock().clone();
        let Some(config) = models.get(&*answered.model).filter(|config| sampled(&answered.id, config.sample))
        else {
            return;
        };
        let bytes = answered.bytes();
        let room = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= BYTES;
        if !room || self.answers.try_send((answered.clone(), config.clone())).is_err() {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn told<'a>(&'a self, told: &'a [Told]) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let full = || Error::new(Code::Overloaded, "too much feedback waits to be written down");
            let (acknowledge, acknowledged) = oneshot::channel();
            self.telling.try_send((told.to_vec(), acknowledge)).map_err(|_| full())?;
            let unwritten = |why: String| Error::new(Code::StorageUnavailable, why);
            let ended = |_| unwritten("the server ends".to_owned());
            acknowledged.await.map_err(ended)?.map_err(unwritten)
        })
    }
}

/// Whether a request is one of the share that is kept: always the same for an id.
fn sampled(id: &str, share: f64) -> bool {
    let hash = blake3::hash(id.as_bytes());
    let number = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    // 53 bits are a fraction exactly.
    ((number >> 11) as f64) < share * (1_u64 << 53) as f64
}

/// Brings answers into files.
async fn write(
    mut answers: mpsc::Receiver<(Arc<Answered>, CaptureConfig)>,
    (mut spools, seen): (Spools, Weak<Seen>),
) {
    loop {
        task::sleep(FLUSH).await;
        let mut took: Vec<(Arc<Answered>, CaptureConfig)> = Vec::new();
        while took.len() < WAITING
            && let Ok(one) = answers.try_recv()
        {
            took.push(one);
        }
        let bytes: usize = took.iter().map(|(answered, _)| answered.bytes()).sum();
        let written = task::reading("capture", move || {
            for (answered, config) in &took {
                if let Err(error) = keep(&mut spools, answered, config) {
                    tracing::warn!(%error, "answers that were to be kept are lost");
                    break;
                }
            }
            spools.rotate();
            spools
        });
        let Ok(back) = written.await else {
            tracing::error!("what was to be kept of answers is lost: a defect");
            return;
        };
        spools = back;
        let Some(seen) = seen.upgrade() else { return };
        seen.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Brings feedback to disk, and acknowledges it.
async fn tell(
    mut telling: mpsc::Receiver<(Vec<Told>, Acknowledge)>,
    (mut spools, seen): (Spools, Weak<Seen>),
) {
    loop {
        let mut told: Vec<(Vec<Told>, Acknowledge)> = Vec::new();
        tokio::select! {
            // Files are looked at also when nothing comes.
            () = task::sleep(FLUSH) => {}
            _ = telling.recv_many(&mut told, TELLING) => {}
        }
        let Some(every) = seen.upgrade().map(|seen| seen.soonest()) else { return };
        let written = task::reading("feedback", move || {
            spools.rotate();
            let all: Vec<&Told> = told.iter().flat_map(|(told, _)| told).collect();
            let written = feedback(&mut spools, &all, every)
                .map_err(|e| format!("feedback cannot be written down: {e}"));
            told.into_iter().for_each(|(_, acknowledge)| drop(acknowledge.send(written.clone())));
            spools
        });
        let Ok(back) = written.await else {
            tracing::error!("feedback cannot be written down: a defect");
            return;
        };
        spools = back;
    }
}

fn keep(spools: &mut Spools, answered: &Answered, config: &CaptureConfig) -> std::io::Result<()> {
    let rows = captured::rows(answered, |name| config.redact.iter().any(|r| r == name));
    let spool = Spool { dataset: dataset(&answered.model), every: config.every.0, rows: config.rows.0 };
    spools.append(&spool, || captured::types(answered), &rows, false)
}

fn feedback(spools: &mut Spools, told: &[&Told], every: Duration) -> std::io::Result<()> {
    if told.is_empty() {
        return Ok(());
    }
    let config = CaptureConfig::default();
    let rows: Vec<_> = told.iter().map(|told| captured::told(told)).collect();
    let spool = Spool { dataset: FEEDBACK.to_owned(), every, rows: config.rows.0 };
    spools.append(&spool, captured::told_types, &rows, true)
}

/// Makes versions of files.
struct Versions {
    warehouse: Lazily,
    clock: Arc<dyn Clock>,
    upkeep: Upkeep,
}

impl Versions {
    async fn work(mut self, folder: PathBuf) {
        let mut later: BTreeMap<PathBuf, i64> = BTreeMap::new();
        loop {
            task::sleep(LOOK).await;
            for file in spool::ready(&folder) {
                let now = self.clock.wall().0;
                if later.get(&file).is_some_and(|until| now < *until) {
                    continue;
                }
                match Box::pin(self.commit(&file)).await {
                    Ok(()) => drop(later.remove(&file)),
                    Err(error) => {
                        tracing::warn!(%error, file = %file.display(), "what was kept of answers cannot become a version yet");
                        later.insert(file, now.saturating_add(AGAIN));
                    }
                }
            }
        }
    }

    /// Makes the rows of a file a version, once, and removes it.
    async fn commit(&mut self, file: &Path) -> Result<(), String> {
        let Some(spooled) = spool::Spooled::of(file) else { return Ok(()) };
        let warehouse = self.warehouse.get().map_err(|e| e.to_string())?;
        let dataset = warehouse.dataset(&spooled.dataset).map_err(|e| format!("cannot {e}"))?;
        let fitted = self.fitted(&dataset, &spooled).await?;
        let change = Change {
            who: Some("capture".to_owned()),
            effect: Some(Effect { key: format!("capture/{}", spooled.name) }),
            ..Change::default()
        };
        match dataset.add(&fitted, &change).await {
            Ok(_) => {
                spooled.remove().map_err(|e| e.to_string())?;
                self.upkeep.grown(&dataset, self.clock.wall()).await;
                Ok(())
            }
            Err(error @ data::Error::Source { .. }) => {
                tracing::error!(%error, "what was kept of answers does not fit its dataset, and stays beside it");
                spooled.refuse().map_err(|e| e.to_string())
            }
            Err(error) => Err(format!("cannot {error}")),
        }
    }

    /// The file as a source with the columns that the dataset has: what it has not is left out, what is missing is null.
    async fn fitted(&self, dataset: &Dataset, spooled: &spool::Spooled) -> Result<Source, String> {
        let failed = |e: data::Error| format!("cannot {e}");
        let mut types: BTreeMap<String, ColumnType> = BTreeMap::new();
        if dataset.exists().await.map_err(failed)? {
            let select = data::Select { limit: Some(0), ..data::Select::default() };
            let rows = dataset.read(&data::At::Newest, &select).await.map_err(failed)?;
            types.extend(rows.schema().columns.iter().map(|c| (c.name.clone(), c.ty.clone())));
        } else {
            for (name, ty) in spooled.types().map_err(|e| e.to_string())? {
                types.insert(name, ty.parse().map_err(failed)?);
            }
        }
        let names: Vec<String> = types.keys().cloned().collect();
        let fitted = spooled.fit(&names).map_err(|e| e.to_string())?;
        Ok(Source { types, format: Some(data::Format::Json), ..Source::file(fitted) })
    }
}

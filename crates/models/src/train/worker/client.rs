//! This side of the worker: started for a training, given the table once, asked for one model after another, and gone with
//! whoever holds it.
//!
//! Opened → fitting → opened → … → dropped. Dropping it, or a future of it, at any moment kills the process; the process
//! ends by itself when this one does, since its stdin ends. Nothing is kept of a training that did not end.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use contract::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::protocol::{self, Ask, Fit, HEAD, Open, Part, Place, Round, Say};
use crate::train::gbdt::{Go, Grow, Growing, Grown, Plot};
use crate::train::{Error, Table, Values};

/// Doubles in a piece of a column.
const PIECE: usize = 1 << 17;
/// What a text model may hold: thousands of large trees.
const LARGEST: usize = 1 << 30;

/// How workers are started.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The program `forebay-lightgbm`.
    pub program: PathBuf,
    /// The address space that it may take, in bytes. Training holds the table twice and its bins once.
    pub memory: u64,
    /// Its threads. Equal models come of equal numbers of threads.
    pub threads: u32,
}

/// Grows trees by LightGBM in a process of its own.
#[derive(Debug, Clone)]
pub struct Worker {
    settings: Arc<WorkerSettings>,
}

impl Worker {
    /// Nothing is started yet.
    pub fn new(settings: WorkerSettings) -> Worker {
        Worker { settings: Arc::new(settings) }
    }
}

impl Grow for Worker {
    fn open<'a>(&'a self, table: &'a Table) -> BoxFuture<'a, Result<Box<dyn Growing>, Error>> {
        Box::pin(async move {
            let mut session = Session::start(&self.settings)?;
            session.table(table).await?;
            Ok(Box::new(session) as Box<dyn Growing>)
        })
    }
}

/// A running worker that has the table.
struct Session {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    memory: u64,
}

impl Session {
    fn start(settings: &WorkerSettings) -> Result<Session, Error> {
        let failed = |why: String| Error::NoWorker { program: settings.program.clone(), why };
        let mut command = Command::new(&settings.program);
        command.arg("--memory").arg(settings.memory.to_string());
        command.arg("--threads").arg(settings.threads.to_string());
        // Threads that wait sleep: on a machine with other work, spinning costs both.
        command.env("OMP_WAIT_POLICY", "passive").env("GOMP_SPINCOUNT", "0");
        // Where memory has run out, making a backtrace of that asks for more, and waits for itself for ever.
        command.env("RUST_BACKTRACE", "0").env("RUST_LIB_BACKTRACE", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed("it has no pipes".to_owned()));
        };
        Ok(Session { child, stdin, stdout: BufReader::new(stdout), memory: settings.memory })
    }

    async fn table(&mut self, table: &Table) -> Result<(), Error> {
        let rows = u32::try_from(table.rows()).map_err(|_| Error::TooMany { rows: table.rows() })?;
        let categories =
            table.features().iter().map(|c| matches!(c.values, Values::Category { .. })).collect();
        let weights = table.weights().is_some();
        self.ask(&Ask::Open(Open { rows, categories, weights })).await?;
        for (i, column) in (0_u32..).zip(table.features()) {
            let place = Place::Feature(i);
            match &column.values {
                Values::Number(values) => self.column(place, values.iter().copied()).await?,
                Values::Category { codes, .. } => {
                    let code =
                        |code: &u32| if *code == Values::MISSING { f64::NAN } else { f64::from(*code) };
                    self.column(place, codes.iter().map(code)).await?;
                }
                Values::Time(_) => {}
            }
        }
        self.column(Place::Label, table.label().numbers()).await?;
        match table.weights() {
            Some(weights) => self.column(Place::Weight, weights.iter().copied()).await,
            None => Ok(()),
        }
    }

    async fn column(&mut self, place: Place, values: impl Iterator<Item = f64> + Send) -> Result<(), Error> {
        let mut piece = Vec::with_capacity(PIECE);
        for value in values {
            piece.push(value);
            if piece.len() == PIECE {
                self.ask(&Ask::Column(place, std::mem::take(&mut piece))).await?;
            }
        }
        self.ask(&Ask::Column(place, piece)).await
    }

    async fn ask(&mut self, ask: &Ask) -> Result<(), Error> {
        match self.stdin.write_all(&ask.encode()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.why_it_died().await),
        }
    }

    async fn say(&mut self) -> Result<Say, Error> {
        let mut head = [0_u8; HEAD];
        if self.stdout.read_exact(&mut head).await.is_err() {
            return Err(self.why_it_died().await);
        }
        let (kind, length) = protocol::head(head)?;
        let mut bytes = vec![0; length];
        if self.stdout.read_exact(&mut bytes).await.is_err() {
            return Err(self.why_it_died().await);
        }
        Ok(Say::decode(kind, &bytes)?)
    }

    /// What it said last, or how it ended. It is dead, or about to be.
    async fn why_it_died(&mut self) -> Error {
        // A worker that cannot read on says so before it ends; of what it said before, only that counts.
        let mut rest = Vec::new();
        let _ = (&mut self.stdout).take(1 << 20).read_to_end(&mut rest).await;
        if let Some(failed) = last_failure(&rest) {
            return self.failed(failed);
        }
        let _ = self.child.start_kill();
        let ended = self.child.wait().await.ok();
        let memory = ended.is_some_and(looks_like_memory);
        if memory {
            return Error::Memory { limit: self.memory };
        }
        let how = ended.map_or_else(|| "without a word".to_owned(), |status| status.to_string());
        Error::WorkerDied { how }
    }

    fn failed(&self, failed: protocol::Failed) -> Error {
        if failed.memory {
            Error::Memory { limit: self.memory }
        } else {
            Error::Trainer { what: failed.what }
        }
    }

    async fn fit(
        &mut self,
        plot: &Plot,
        watch: &mut (dyn FnMut(Round) -> Go + Send),
    ) -> Result<Grown, Error> {
        let fit = Fit {
            params: plot.params.clone(),
            rounds: plot.rounds,
            patience: plot.patience,
            rising: plot.rising,
        };
        self.ask(&Ask::Fit(fit)).await?;
        for (part, rows) in [(Part::Train, &plot.train), (Part::Valid, &plot.valid)] {
            for rows in rows.chunks(PIECE) {
                self.ask(&Ask::Rows(part, rows.to_vec())).await?;
            }
        }
        self.ask(&Ask::Go).await?;
        let mut text = Vec::new();
        let mut told = false;
        loop {
            match self.say().await? {
                Say::Round(round) => {
                    if watch(round) == Go::Stop && !told {
                        told = true;
                        self.ask(&Ask::Stop).await?;
                    }
                }
                Say::Model(piece) if text.len() + piece.len() <= LARGEST => text.extend(piece),
                Say::Model(_) => return Err(protocol::Broken("a model too large").into()),
                Say::Fitted(fitted) => {
                    let text =
                        String::from_utf8(text).map_err(|_| protocol::Broken("a model that is no text"))?;
                    return Ok(Grown {
                        text,
                        rounds: fitted.rounds,
                        value: fitted.value,
                        stopped: fitted.stopped,
                    });
                }
                Say::Failed(failed) => return Err(self.failed(failed)),
            }
        }
    }
}

impl Growing for Session {
    fn grow<'a>(
        &'a mut self,
        plot: &'a Plot,
        watch: &'a mut (dyn FnMut(Round) -> Go + Send),
    ) -> BoxFuture<'a, Result<Grown, Error>> {
        Box::pin(self.fit(plot, watch))
    }
}

/// The failure that the last frames tell of.
fn last_failure(mut bytes: &[u8]) -> Option<protocol::Failed> {
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() {
        let (kind, length) = protocol::head(*head).ok()?;
        let (content, rest) = rest.split_at_checked(length)?;
        if let Ok(Say::Failed(failed)) = Say::decode(kind, content) {
            return Some(failed);
        }
        bytes = rest;
    }
    None
}

/// An allocation that failed aborts, and a system without memory kills.
#[cfg(unix)]
fn looks_like_memory(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    matches!(status.signal(), Some(6 | 9 | 11))
}

#[cfg(not(unix))]
fn looks_like_memory(_: ExitStatus) -> bool {
    false
}

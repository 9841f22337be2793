//! What brings batches on: one task, a step of each at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use contract::{Error, RequestId, RunId, UnixMillis};
use pipeline::runs::Lane;
use pipeline::task;
use store::{FileStore, StoredBatch};

use super::lines::{self, Known, Lines, Next};
use super::object::{Batch, Problem, Status};
use super::results::Results;
use super::{Batches, name, storage};
use crate::current::Latest;
use crate::jobs::{Job, Jobs, Line};

/// Lines of a batch that are open at once: enough for every place to find the next one, few enough to look through.
const WINDOW: u64 = 256;
/// What a step submits at most, in bytes.
const STEP: usize = 4 << 20;
/// Lines that end within this long are counted once.
const TOGETHER: Duration = Duration::from_millis(20);
/// How often it is looked while something goes on, while nothing does, and after a failure.
const SOON: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_secs(30);
/// Problems of a file that are named.
const PROBLEMS: usize = 100;
/// How much is removed in one transaction.
const CLEARED: u32 = 200;

/// Brings the batches of a server on.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) batches: Batches,
    pub(crate) jobs: Jobs,
    pub(crate) files: Arc<dyn FileStore>,
    pub(crate) gateway: Latest,
    /// How long a batch is kept when it has ended.
    pub(crate) keep: Duration,
}

impl Driver {
    /// Works until it is dropped, which may be at any point.
    pub(crate) async fn work(self) {
        loop {
            let pause = match self.round().await {
                Ok(true) => SOON,
                Ok(false) => LOOK,
                Err(e) => {
                    tracing::error!(error = %e, "failed to look for batches");
                    SOON
                }
            };
            tokio::select! {
                () = self.batches.wake.notified() => task::sleep(TOGETHER).await,
                () = task::sleep(pause) => {}
            }
        }
    }

    /// A step of each; whether any goes on.
    async fn round(&self) -> Result<bool, Error> {
        let store = &self.batches.store;
        let open = store.open().await.map_err(storage)?;
        let going_on = !open.is_empty();
        for batch in open {
            let id = name(batch.id);
            // One that fails holds no other up.
            if let Err(e) = self.step(batch).await {
                tracing::warn!(batch = %id, error = %e.message, "a step of a batch is to be done again");
            }
        }
        while store.clear(CLEARED).await.map_err(storage)? > 0 {}
        let keep = i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX);
        let before = UnixMillis(self.now().0.saturating_sub(keep));
        store.expire(before, CLEARED).await.map_err(storage)?;
        Ok(going_on)
    }

    fn now(&self) -> UnixMillis {
        self.batches.clock.wall()
    }

    async fn step(&self, stored: StoredBatch) -> Result<(), Error> {
        let batch = Batch::read(&stored.about)?;
        match batch.status {
            Status::Validating => self.validate(&stored, batch).await,
            Status::InProgress => self.feed(&stored, batch).await,
            Status::Finalizing | Status::Cancelling => self.finish(&stored, batch).await,
            Status::Failed | Status::Completed | Status::Expired | Status::Cancelled => Ok(()),
        }
    }

    /// The lines of a batch's file from behind those that were read before.
    fn lines<'a>(&'a self, stored: &'a StoredBatch, batch: &'a Batch) -> Lines<'a> {
        let longest = self.gateway.app().map_or(0, |app| app.generation.settings.limits.body_bytes);
        Lines::new(&*self.files, &stored.tenant, &batch.input_file, longest, (batch.line, batch.offset))
    }

    /// Reads the whole file once, and says what is wrong with it.
    async fn validate(&self, stored: &StoredBatch, mut batch: Batch) -> Result<(), Error> {
        let most = self.batches.settings.lines;
        let (mut problems, mut known, mut total) = (Vec::new(), Known::default(), 0_u64);
        let whole =
            |code: &str, message: String, line| Problem { code: code.to_owned(), message, param: None, line };
        let mut lines = self.lines(stored, &batch);
        while problems.len() < PROBLEMS {
            let line = match lines.next(self.now()).await.map_err(storage)? {
                Next::Line(line) => line,
                Next::End => break,
                Next::Gone => {
                    problems.push(gone());
                    break;
                }
                Next::TooLong(number) => {
                    let m = format!("This line is longer than {} bytes.", lines.longest);
                    problems.push(whole("line_too_long", m, Some(number)));
                    break;
                }
            };
            total += 1;
            if total > most {
                let m = format!("The file has more than {most} requests, which a batch may have.");
                problems.push(whole("too_many_requests", m, Some(line.number)));
                break;
            }
            match lines::read(&line, &batch.endpoint) {
                Ok(request) if known.insert(&request.custom_id) => {}
                Ok(request) => problems.push(Problem {
                    code: "duplicate_custom_id".to_owned(),
                    message: format!("The custom_id '{}' is that of another line, too.", request.custom_id),
                    param: Some("custom_id".to_owned()),
                    line: Some(line.number),
                }),
                Err(problem) => problems.push(problem),
            }
        }
        if total == 0 && problems.is_empty() {
            problems.push(whole("empty_file", "The file has no requests.".to_owned(), None));
        }
        let now = self.now();
        batch.total = total;
        if problems.is_empty() {
            (batch.status, batch.in_progress_at) = (Status::InProgress, Some(now));
        } else {
            (batch.status, batch.failed_at, batch.errors, batch.total) =
                (Status::Failed, Some(now), problems, 0);
        }
        self.batches.update(stored, &batch).await.map(|_| ())
    }

    /// Makes jobs of the next lines, as far as there is room for them, and sees whether all have ended.
    async fn feed(&self, stored: &StoredBatch, mut batch: Batch) -> Result<(), Error> {
        let now = self.now();
        if batch.expires_at <= now {
            (batch.status, batch.finalizing_at, batch.expired_at) =
                (Status::Finalizing, Some(now), Some(now));
            return self.batches.update(stored, &batch).await.map(|_| ());
        }
        let counts = self.batches.store.counts(stored.id).await.map_err(storage)?;
        let open: u64 = counts.iter().filter(|(s, _)| s == "queued" || s == "running").map(|(_, n)| n).sum();
        if batch.fed >= batch.total {
            if open == 0 {
                (batch.status, batch.finalizing_at) = (Status::Finalizing, Some(now));
                self.batches.update(stored, &batch).await?;
            }
            return Ok(());
        }
        // A few at a time would be a transaction for each.
        if open > WINDOW * 3 / 4 {
            return Ok(());
        }
        let (jobs, stopped) = {
            let (mut jobs, mut bytes) = (Vec::new(), 0);
            let mut lines = self.lines(stored, &batch);
            let mut behind = (batch.line, batch.offset);
            let mut stopped = None;
            while (jobs.len() as u64) < WINDOW - open && bytes < STEP {
                let line = match lines.next(now).await.map_err(storage)? {
                    Next::Line(line) => line,
                    Next::End => {
                        stopped = Some(None);
                        break;
                    }
                    Next::Gone | Next::TooLong(_) => {
                        stopped = Some(Some(gone()));
                        break;
                    }
                };
                // Only what was read before comes here.
                if let Ok(request) = lines::read(&line, &batch.endpoint) {
                    bytes += line.text.len();
                    let body = Bytes::copy_from_slice(request.body.get().as_bytes());
                    let of = Line {
                        of: stored.id,
                        number: line.number,
                        custom_id: request.custom_id.into_owned(),
                    };
                    jobs.push(job(stored, &batch, of, body));
                }
                behind = (line.number, line.end);
            }
            batch.fed += jobs.len() as u64;
            (batch.line, batch.offset) = behind;
            (jobs, stopped)
        };
        match stopped {
            // The file has as many as when it was counted, unless it is not there to be counted any more.
            Some(None) => batch.total = batch.fed,
            Some(Some(problem)) => {
                batch.errors.push(problem);
                (batch.total, batch.status, batch.finalizing_at) = (batch.fed, Status::Finalizing, Some(now));
            }
            None => {}
        }
        // Who is cut off here submits them again: they are known by then.
        if !jobs.is_empty() {
            self.jobs.submit(jobs).await?;
        }
        self.batches.update(stored, &batch).await.map(|_| ())
    }

    /// Ends what still goes on of it, and writes its files.
    async fn finish(&self, stored: &StoredBatch, mut batch: Batch) -> Result<(), Error> {
        let waits = batch.status == Status::Finalizing && !batch.is_late();
        loop {
            let open = self.batches.store.open_parts(stored.id, CLEARED).await.map_err(storage)?;
            if open.is_empty() {
                break;
            }
            if waits {
                return Ok(());
            }
            for run in open {
                self.jobs.stop(run).await?;
            }
        }
        let results = Results { batches: &self.batches, jobs: &self.jobs, files: &*self.files, stored };
        let mut written = results.write(&batch, self.lines(stored, &batch)).await?;
        let now = self.now();
        (batch.completed, batch.failed) = (written.completed, written.failed);
        (batch.output_file, batch.error_file) = (written.output.take(), written.errors.take());
        batch.total = batch.completed + batch.failed;
        let (status, at) = match batch.status {
            Status::Cancelling => (Status::Cancelled, &mut batch.cancelled_at),
            _ if batch.is_late() => (Status::Expired, &mut batch.expired_at),
            _ if batch.errors.is_empty() => (Status::Completed, &mut batch.completed_at),
            _ => (Status::Failed, &mut batch.failed_at),
        };
        *at = Some(now);
        batch.status = status;
        // The version is that of the status: nobody changed it, or this ends differently the next time.
        self.batches.update(stored, &batch).await.map(|_| ())
    }
}

fn gone() -> Problem {
    Problem {
        code: "input_file_gone".to_owned(),
        message: "The input file was deleted or has expired.".to_owned(),
        param: Some("input_file_id".to_owned()),
        line: None,
    }
}

/// A line as a job, under an id that it alone has and always the same. Those of a batch sort as its lines do, and the low bits
/// tell attempts apart.
fn job(stored: &StoredBatch, batch: &Batch, line: Line, body: Bytes) -> (RunId, Job) {
    let hash = blake3::derive_key("forebay 2026 lines of batches", stored.id.as_bytes());
    let of = u128::from(u64::from_be_bytes(*hash.first_chunk::<8>().unwrap_or(&[0; 8])));
    let id = RunId::of(RequestId::from_parts(stored.created_at, of << 40 | u128::from(line.number) << 16));
    let mut job = Job::json(stored.tenant.clone(), batch.key.clone(), batch.endpoint.clone(), body);
    job.idempotency_key = Some(format!("{}:{}", name(stored.id), line.number));
    job.lane = Lane::Low;
    job.deadline = Some(batch.expires_at);
    job.line = Some(line);
    (id, job)
}

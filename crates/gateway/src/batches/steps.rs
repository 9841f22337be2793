//! The steps of a batch: its file is checked, its lines become jobs, its results become files. Each can be made again.

use bytes::Bytes;
use contract::{Code, Error, RequestId, RunId};
use pipeline::runs::Lane;
use store::{StoredBatch, Submitted};

use super::drive::Driver;
use super::lines::{self, Known, Lines, Next};
use super::object::{Batch, Problem, Status};
use super::results::Results;
use super::{name, storage};
use crate::drain;
use crate::jobs::{Job, Line};

/// Lines of a batch that are open at once: enough for every place to find the next one, few enough to look through.
const WINDOW: u64 = 256;
/// What a step submits at most, in bytes.
const STEP: usize = 4 << 20;
/// Problems of a file that are named.
const PROBLEMS: usize = 100;
/// Lines that are stopped together.
const STOPPED: u32 = 200;
/// The last line that has an id of its own: blank ones count.
const MAX_LINES: u64 = (1 << 24) - 1;

/// Where a batch goes on: what was read of its file, and why no more can be.
struct Read {
    jobs: Vec<(RunId, Job)>,
    /// The last line, and where it ends.
    behind: (u64, u64),
    /// Nothing more comes, for that reason.
    stopped: Option<Option<Problem>>,
}

impl Driver {
    /// The step that a batch is at.
    pub(super) async fn step(&self, stored: StoredBatch) -> Result<(), Error> {
        let batch = Batch::read(&stored.about)?;
        match batch.status {
            Status::Validating => self.validate(&stored, batch).await,
            Status::InProgress => self.feed(&stored, batch).await,
            Status::Finalizing | Status::Cancelling => self.finish(&stored, batch).await,
            Status::Failed | Status::Completed | Status::Expired | Status::Cancelled => Ok(()),
        }
    }

    /// The lines of a batch's file from behind those that were read before, by what they might be when it was found sound.
    fn lines<'a>(&'a self, stored: &'a StoredBatch, batch: &'a Batch) -> Lines<'a> {
        let longest = batch.longest.unwrap_or(usize::MAX);
        Lines::new(&*self.files, &stored.tenant, &batch.input_file, longest, (batch.line, batch.offset))
    }

    /// Reads the whole file once, and says what is wrong with it.
    async fn validate(&self, stored: &StoredBatch, mut batch: Batch) -> Result<(), Error> {
        // Without a gateway nobody knows how long a line may be; there is one as long as it serves.
        let app = self.gateway.app().ok_or_else(drain::refusal)?;
        batch.longest = Some(app.generation.settings.limits.body_bytes);
        let (total, problems) = self.check(self.lines(stored, &batch), &batch.endpoint).await?;
        let now = self.now();
        if problems.is_empty() {
            (batch.status, batch.in_progress_at, batch.total) = (Status::InProgress, Some(now), total);
        } else {
            (batch.status, batch.failed_at, batch.errors) = (Status::Failed, Some(now), problems);
        }
        self.batches.update(stored, &batch).await.map(|_| ())
    }

    /// How many requests there are, and what is wrong with them.
    async fn check(&self, mut lines: Lines<'_>, endpoint: &str) -> Result<(u64, Vec<Problem>), Error> {
        let most = self.batches.settings.lines;
        let (mut problems, mut known, mut total) = (Vec::new(), Known::default(), 0_u64);
        while problems.len() < PROBLEMS {
            let line = match lines.next(self.now()).await.map_err(storage)? {
                Next::Line(line) => line,
                Next::End => break,
                Next::Gone => {
                    problems.push(gone());
                    break;
                }
                Next::TooLong(number) => {
                    problems.push(too_long(lines.longest, number));
                    continue;
                }
            };
            if line.number > MAX_LINES {
                let m = format!("The file has more than {MAX_LINES} lines.");
                problems.push(whole("too_many_lines", m, Some(line.number)));
                break;
            }
            total += 1;
            if total > most {
                let m = format!("The file has more than {most} requests, which a batch may have.");
                problems.push(whole("too_many_requests", m, Some(line.number)));
                break;
            }
            match lines::read(&line, endpoint) {
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
        Ok((total, problems))
    }

    /// Makes jobs of the next lines, as far as there is room for them, and sees whether all have ended.
    pub(super) async fn feed(&self, stored: &StoredBatch, mut batch: Batch) -> Result<(), Error> {
        let now = self.now();
        if batch.expires_at <= now {
            (batch.status, batch.finalizing_at, batch.expired_at) =
                (Status::Finalizing, Some(now), Some(now));
            return self.batches.update(stored, &batch).await.map(|_| ());
        }
        let counts = self.batches.store.counts(stored.id).await.map_err(storage)?;
        let open: u64 = counts.iter().filter(|(s, _)| s == "queued" || s == "running").map(|(_, n)| n).sum();
        if batch.fed >= batch.total {
            // What nobody can read is not waited for.
            let lost = self.jobs.unreadable().len() as u64;
            if open == 0 || (open <= lost && self.open(stored.id).await?.is_empty()) {
                (batch.status, batch.finalizing_at) = (Status::Finalizing, Some(now));
                self.batches.update(stored, &batch).await?;
            }
            return Ok(());
        }
        // A few at a time would be a transaction for each.
        if open > WINDOW * 3 / 4 {
            return Ok(());
        }
        // All of a step is taken in or nothing, so it asks for no more than there is room for.
        let most = (WINDOW - open).min(self.jobs.room(&stored.tenant).await?);
        if most == 0 {
            return Ok(());
        }
        let read = self.read(stored, &batch, most).await?;
        batch.fed += read.jobs.len() as u64;
        (batch.line, batch.offset) = read.behind;
        match read.stopped {
            // The file has as many as when it was counted, unless it is not there to be counted any more.
            Some(None) => batch.total = batch.fed,
            Some(Some(problem)) => {
                batch.errors.push(problem);
                (batch.total, batch.status, batch.finalizing_at) = (batch.fed, Status::Finalizing, Some(now));
            }
            None => {}
        }
        // Who is cut off here submits them again: they are known by then.
        if !read.jobs.is_empty() && !self.submit(stored, read.jobs).await? {
            return Ok(());
        }
        self.batches.update(stored, &batch).await.map(|_| ())
    }

    /// The next lines as jobs, at most `most`.
    async fn read(&self, stored: &StoredBatch, batch: &Batch, most: u64) -> Result<Read, Error> {
        let mut read = Read { jobs: Vec::new(), behind: (batch.line, batch.offset), stopped: None };
        let (mut lines, mut bytes) = (self.lines(stored, batch), 0);
        while (read.jobs.len() as u64) < most && bytes < STEP {
            let line = match lines.next(self.now()).await.map_err(storage)? {
                Next::Line(line) => line,
                Next::End => {
                    read.stopped = Some(None);
                    break;
                }
                Next::Gone => {
                    read.stopped = Some(Some(gone()));
                    break;
                }
                Next::TooLong(number) => {
                    read.stopped = Some(Some(too_long(lines.longest, number)));
                    break;
                }
            };
            // Only what was read before comes here.
            if let Ok(request) = lines::read(&line, &batch.endpoint) {
                bytes += line.text.len();
                let body = Bytes::copy_from_slice(request.body.get().as_bytes());
                let custom_id = request.custom_id.into_owned();
                let of = Line { of: stored.id, number: line.number, custom_id };
                read.jobs.push(job(stored, batch, of, body));
            }
            read.behind = (line.number, line.end);
        }
        Ok(read)
    }

    /// Makes jobs of lines; `false` when others took the room meanwhile.
    async fn submit(&self, stored: &StoredBatch, jobs: Vec<(RunId, Job)>) -> Result<bool, Error> {
        let made = match self.jobs.submit(jobs).await {
            Err(e) if e.code == Code::Overloaded => return Ok(false),
            made => made?,
        };
        let taken = |(id, made): &&(RunId, Submitted)| match made {
            Submitted::New => false,
            Submitted::Known(known) => known != id,
            Submitted::Other => true,
        };
        match made.iter().find(taken) {
            None => Ok(true),
            Some((id, _)) => {
                let m = format!("the place of {id} in {} is another's; this is a defect", name(stored.id));
                Err(Error::new(Code::Internal, m))
            }
        }
    }

    /// Lines that have not ended and can be read, some of them.
    async fn open(&self, batch: RunId) -> Result<Vec<RunId>, Error> {
        let lost = self.jobs.unreadable();
        let limit = STOPPED.saturating_add(u32::try_from(lost.len()).unwrap_or(u32::MAX));
        let mut open = self.batches.store.open_parts(batch, limit).await.map_err(storage)?;
        open.retain(|run| !lost.contains(run));
        Ok(open)
    }

    /// Ends what still goes on of it, and writes its files.
    async fn finish(&self, stored: &StoredBatch, mut batch: Batch) -> Result<(), Error> {
        let waits = batch.status == Status::Finalizing && !batch.is_late();
        loop {
            let open = self.open(stored.id).await?;
            if open.is_empty() {
                break;
            }
            if waits {
                return Ok(());
            }
            for run in open {
                self.jobs.stop_or_leave(run).await?;
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

fn whole(code: &str, message: String, line: Option<u64>) -> Problem {
    Problem { code: code.to_owned(), message, param: None, line }
}

fn too_long(longest: usize, line: u64) -> Problem {
    whole("line_too_long", format!("This line is longer than {longest} bytes."), Some(line))
}

fn gone() -> Problem {
    let message = "The input file was deleted or has expired.".to_owned();
    Problem { param: Some("input_file_id".to_owned()), ..whole("input_file_gone", message, None) }
}

/// A line as a job, under an id that it alone has and always the same: its number has 24 bits. Those of a batch sort as its lines
/// do, and the low bits tell attempts apart.
fn job(stored: &StoredBatch, batch: &Batch, line: Line, body: Bytes) -> (RunId, Job) {
    let hash = blake3::derive_key("forebay 2026 lines of batches", stored.id.as_bytes());
    let of = u128::from(u64::from_be_bytes(*hash.first_chunk::<8>().unwrap_or(&[0; 8])));
    let id = RunId::of(RequestId::from_parts(stored.created_at, of << 40 | u128::from(line.number) << 16));
    let mut job = Job::json(stored.tenant.clone(), batch.key.clone(), batch.endpoint.clone(), body);
    job.lane = Lane::Low;
    job.deadline = Some(batch.expires_at);
    job.line = Some(line);
    (id, job)
}

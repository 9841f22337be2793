//! The files that a batch leaves: a line for each of its lines, in one of the two.

use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use contract::{Error, RequestId, RunId, TenantId, UnixMillis};
use serde::Serialize;
use serde_json::value::RawValue;
use store::{FileInfo, FileStore, FileWriter, PartOutput, StoredBatch};

use super::lines::{self, Lines, Next};
use super::object::{Batch, Status};
use super::{Batches, name, storage};
use crate::jobs::{Jobs, Kept, custom_id};

/// Lines that are looked at together: their answers are in memory at once.
const PAGE: u32 = 16;
/// What is written at once, in bytes.
const PIECE: usize = 256 << 10;

/// What is needed to write them.
pub(super) struct Results<'a> {
    pub(super) batches: &'a Batches,
    pub(super) jobs: &'a Jobs,
    pub(super) files: &'a dyn FileStore,
    pub(super) stored: &'a StoredBatch,
}

/// What was written.
pub(super) struct Written {
    pub(super) completed: u64,
    pub(super) failed: u64,
    /// The ids of the files; none that would be empty.
    pub(super) output: Option<String>,
    pub(super) errors: Option<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Answered<'a>>,
    error: Option<Why>,
}

#[derive(Serialize)]
struct Answered<'a> {
    status_code: u16,
    request_id: RequestId,
    body: &'a RawValue,
}

#[derive(Serialize)]
struct Why {
    code: String,
    message: String,
}

/// Why a line has no answer, in words.
fn why(batch: &Batch) -> Why {
    let (code, message) = match batch.status {
        Status::Cancelling => {
            ("batch_cancelled", "This request was not executed before the batch was cancelled.")
        }
        _ if batch.is_late() => {
            ("batch_expired", "This request could not be executed before the completion window expired.")
        }
        _ => ("request_cancelled", "This request was cancelled."),
    };
    Why { code: code.to_owned(), message: message.to_owned() }
}

/// Why a line has no answer whose journal nobody can read.
fn unreadable() -> Why {
    let message = "The record of this request cannot be read: see the server's log.".to_owned();
    Why { code: contract::Code::Internal.as_str().to_owned(), message }
}

impl Results<'_> {
    /// Writes both. `rest` are the lines behind those that are known to be jobs.
    pub(super) async fn write(&self, batch: &Batch, mut rest: Lines<'_>) -> Result<Written, Error> {
        let tenant = &self.stored.tenant;
        let (mut output, mut errors) = (Out::new(self.files, tenant), Out::new(self.files, tenant));
        let mut after = None;
        // Jobs that were made in a step that was cut off before it said so.
        let mut beyond = HashSet::new();
        loop {
            let page = self.batches.store.parts(self.stored.id, after, PAGE).await.map_err(storage)?;
            let Some(last) = page.last() else { break };
            after = Some(last.number);
            for part in &page {
                if part.number > batch.line {
                    beyond.insert(part.number);
                }
                self.row(batch, part, &mut output, &mut errors).await?;
            }
        }
        if batch.fed < batch.total {
            self.not_begun(batch, &mut rest, &beyond, &mut errors).await?;
        }
        let (completed, failed) = (output.rows, errors.rows);
        let output = output.end(self.info(batch, "output")).await?;
        let errors = errors.end(self.info(batch, "errors")).await?;
        Ok(Written { completed, failed, output, errors })
    }

    /// Writes the lines of `rest` that are not jobs, as far as they can be read.
    async fn not_begun(
        &self,
        batch: &Batch,
        rest: &mut Lines<'_>,
        beyond: &HashSet<u64>,
        errors: &mut Out<'_>,
    ) -> Result<(), Error> {
        loop {
            let line = match rest.next(self.batches.clock.wall()).await.map_err(storage)? {
                Next::Line(line) => line,
                Next::TooLong(_) => continue,
                Next::End | Next::Gone => return Ok(()),
            };
            let Ok(request) = lines::read(&line, &batch.endpoint) else { continue };
            if beyond.contains(&line.number) {
                continue;
            }
            let id = format!("batch_req_{}_{}", self.stored.id.serial(), line.number);
            let custom_id = &request.custom_id;
            errors.row(&Row { id, custom_id, response: None, error: Some(why(batch)) }).await?;
        }
    }

    /// A file of that sort. Written again, it has the same id.
    fn info(&self, batch: &Batch, sort: &str) -> FileInfo {
        let now = self.batches.clock.wall();
        FileInfo {
            id: format!("file-{}-{sort}", self.stored.id.serial()),
            name: format!("{}_{sort}.jsonl", name(self.stored.id)),
            purpose: "batch_output".to_owned(),
            bytes: 0,
            created_at: now,
            expires_at: batch.stays.map(|s| UnixMillis(now.0.saturating_add(s * 1_000))),
        }
    }

    async fn row<'a>(
        &self,
        batch: &Batch,
        part: &PartOutput,
        output: &mut Out<'a>,
        errors: &mut Out<'a>,
    ) -> Result<(), Error> {
        let head = &part.head;
        let custom_id = custom_id(&head.about);
        let id = format!("batch_req_{}", head.id.serial());
        let kept: Option<Kept<'_>> =
            part.output.as_deref().and_then(|output| serde_json::from_slice(output).ok());
        let (to, error) = match (&kept, head.status.as_str()) {
            (Some(kept), "succeeded") if (200..300).contains(&kept.status) => (output, None),
            (Some(_), _) => (errors, None),
            (None, "cancelled") => (errors, Some(why(batch))),
            (None, _) if head.ended_at.is_none() => (errors, Some(unreadable())),
            (None, _) => (errors, Some(self.why(batch, head.id, head.ended_at).await?)),
        };
        let response =
            kept.map(|k| Answered { status_code: k.status, request_id: k.request_id, body: k.body });
        to.row(&Row { id, custom_id: &custom_id, response, error }).await
    }

    /// Why a line failed that had no answer.
    async fn why(&self, batch: &Batch, run: RunId, ended_at: Option<UnixMillis>) -> Result<Why, Error> {
        let error = self.jobs.error(run).await?;
        Ok(match error {
            Some(e) if e.code == contract::Code::DeadlineExceeded && ended_at >= Some(batch.expires_at) => {
                let m = "This request could not be executed before the completion window expired.";
                Why { code: "batch_expired".to_owned(), message: m.to_owned() }
            }
            Some(e) => Why { code: e.code.as_str().to_owned(), message: e.message },
            None => why(batch),
        })
    }
}

/// A file on its way, which begins with its first row.
struct Out<'a> {
    files: &'a dyn FileStore,
    tenant: &'a TenantId,
    writer: Option<Box<dyn FileWriter>>,
    buffer: BytesMut,
    rows: u64,
}

impl<'a> Out<'a> {
    fn new(files: &'a dyn FileStore, tenant: &'a TenantId) -> Self {
        Out { files, tenant, writer: None, buffer: BytesMut::new(), rows: 0 }
    }

    async fn row(&mut self, row: &Row<'_>) -> Result<(), Error> {
        let line = serde_json::to_vec(row).map_err(|e| {
            Error::new(contract::Code::Internal, format!("a line cannot be written: {e}; this is a defect"))
        })?;
        self.buffer.extend_from_slice(&line);
        self.buffer.extend_from_slice(b"\n");
        self.rows += 1;
        if self.buffer.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(self.files.create(self.tenant).await.map_err(storage)?),
        };
        let piece: Bytes = self.buffer.split().freeze();
        writer.write(piece).await.map_err(storage)
    }

    /// Puts it in place, unless there is nothing in it. Its id.
    async fn end(mut self, info: FileInfo) -> Result<Option<String>, Error> {
        if self.rows == 0 {
            return Ok(None);
        }
        self.flush().await?;
        let id = info.id.clone();
        if let Some(writer) = self.writer {
            writer.finish(info).await.map_err(storage)?;
        }
        Ok(Some(id))
    }
}

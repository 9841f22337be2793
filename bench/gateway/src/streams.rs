//! Many streams at the same time, each read to its end and checked: every piece in its order, the usage, `[DONE]`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use crate::args::{Args, Target};
use crate::plan::Plan;
use crate::wire::{self, Chunks, Length};
use crate::{Result, block_on};

/// What has been seen of one stream.
#[derive(Default)]
struct Seen {
    /// Body bytes of an event that is not whole yet.
    rest: Vec<u8>,
    pieces: usize,
    usage: bool,
    done: bool,
}

impl Seen {
    /// Takes every whole event out of `rest`.
    fn events(&mut self, plan: &Plan) -> Result<()> {
        while let Some(end) = memmem::find(&self.rest, b"\n\n") {
            let event = self.rest.get(..end).unwrap_or_default();
            let data = event.strip_prefix(b"data: ").or_else(|| event.strip_prefix(b"data:"));
            if let Some(data) = data {
                let wanted = format!(r#""{}""#, Plan::token(self.pieces));
                if data == b"[DONE]" {
                    self.done = true;
                } else if memmem::find(data, wanted.as_bytes()).is_some() {
                    self.pieces += 1;
                } else if memmem::find(data, br#""content":"tok"#).is_some() {
                    let text = String::from_utf8_lossy(data);
                    return Err(format!("piece {} is not in its place: {text}", self.pieces).into());
                }
                let made = format!(r#""completion_tokens":{}"#, plan.tokens);
                self.usage |= memmem::find(data, made.as_bytes()).is_some();
            }
            self.rest.drain(..end + 2);
        }
        Ok(())
    }
}

async fn one(target: &Target, plan: &Plan, open: &Cell<usize>) -> Result<usize> {
    let mut stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&target.request).await?;
    let mut buffer = Vec::with_capacity(4 << 10);
    let head = loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err("the connection was closed before the head".into());
        }
        if let Some(head) = wire::head(&buffer) {
            break head;
        }
    };
    if head.status != 200 {
        return Err(format!("status {}: {}", head.status, String::from_utf8_lossy(&buffer)).into());
    }
    open.set(open.get() + 1);
    let mut chunks = (head.length == Length::Chunked).then(Chunks::default);
    let mut seen = Seen::default();
    buffer.drain(..head.end);
    loop {
        match &mut chunks {
            Some(c) => c.feed(&buffer, &mut seen.rest),
            None => seen.rest.extend_from_slice(&buffer),
        }
        seen.events(plan)?;
        if chunks.as_ref().map_or(seen.done, |c| c.ended) {
            break;
        }
        buffer.clear();
        if stream.read_buf(&mut buffer).await? == 0 {
            break;
        }
    }
    if seen.pieces != plan.tokens || !seen.usage || !seen.done {
        let (pieces, usage, done) = (seen.pieces, seen.usage, seen.done);
        return Err(format!("a stream ended with {pieces} pieces, usage {usage}, done {done}").into());
    }
    Ok(seen.pieces)
}

/// Prints one line of JSON.
pub(crate) fn run(args: &Args) -> Result<()> {
    let plan = Plan {
        tokens: args.number("tokens", 100)?,
        interval_ms: args.number("interval-ms", 50)?,
        size: args.number("size", 1024)?,
    };
    let target = Rc::new(Target::new(args, &plan, true)?);
    let streams: usize = args.number("streams", 500)?;
    block_on(async move {
        let started = Instant::now();
        let (local, open) = (LocalSet::new(), Rc::new(Cell::new(0)));
        let mut tasks = Vec::new();
        for n in 0..streams {
            let (target, open) = (target.clone(), open.clone());
            tasks.push(local.spawn_local(async move {
                // Not all connections in one millisecond: listening queues are not what is measured.
                tokio::time::sleep(Duration::from_micros(n as u64 * 1_000)).await;
                one(&target, &plan, &open).await
            }));
        }
        local
            .run_until(async move {
                let (mut pieces, mut failed, mut first) = (0, 0, None);
                for task in tasks {
                    match task.await? {
                        Ok(n) => pieces += n,
                        Err(e) => {
                            failed += 1;
                            first.get_or_insert(e);
                        }
                    }
                }
                let took = started.elapsed().as_secs_f64();
                println!(
                    r#"{{"streams":{streams},"opened":{},"failed":{failed},"pieces":{pieces},"seconds":{took:.3}}}"#,
                    open.get()
                );
                match first {
                    Some(e) => Err(format!("{failed} streams failed, the first: {e}").into()),
                    None => Ok(()),
                }
            })
            .await
    })
}

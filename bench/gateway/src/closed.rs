//! Closed loop: a number of connections, each asking again as soon as it has its answer. Gives the most a gateway can
//! do; its latencies say nothing.

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

/// One connection that asks and checks.
struct Asker {
    stream: TcpStream,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Asker {
    async fn connect(target: &Target) -> Result<Asker> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        Ok(Asker { stream, buffer: Vec::with_capacity(4 << 10), body: Vec::new() })
    }

    async fn ask(&mut self, target: &Target) -> Result<()> {
        self.stream.write_all(&target.request).await?;
        self.buffer.clear();
        self.body.clear();
        let head = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection was closed".into());
            }
            if let Some(head) = wire::head(&self.buffer) {
                break head;
            }
        };
        self.body.extend_from_slice(self.buffer.get(head.end..).unwrap_or_default());
        match head.length {
            Length::Bytes(n) => {
                while self.body.len() < n {
                    if self.stream.read_buf(&mut self.body).await? == 0 {
                        return Err("the answer was cut".into());
                    }
                }
            }
            Length::Chunked => {
                let mut chunks = Chunks::default();
                self.body.clear();
                chunks.feed(self.buffer.get(head.end..).unwrap_or_default(), &mut self.body);
                while !chunks.ended {
                    self.buffer.clear();
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err("the answer was cut".into());
                    }
                    chunks.feed(&self.buffer, &mut self.body);
                }
            }
        }
        check(head.status, &self.body, target)
    }
}

/// The status is 200 and the whole text is there.
pub(crate) fn check(status: u16, body: &[u8], target: &Target) -> Result<()> {
    if status != 200 || memmem::find(body, target.answer.as_bytes()).is_none() {
        let text = String::from_utf8_lossy(body.get(..body.len().min(600)).unwrap_or_default());
        return Err(format!("status {status}, and not the answer expected: {text}").into());
    }
    Ok(())
}

/// Prints one line of JSON.
pub(crate) fn run(args: &Args) -> Result<()> {
    let plan = Plan { tokens: args.number("tokens", 8)?, interval_ms: 0, size: args.number("size", 1024)? };
    let target = Rc::new(Target::new(args, &plan, false)?);
    let connections: usize = args.number("connections", 32)?;
    let seconds: f64 = args.number("seconds", 5.0)?;
    block_on(async move {
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(seconds);
        let done = Rc::new(Cell::new(0u64));
        let local = LocalSet::new();
        let mut tasks = Vec::new();
        for _ in 0..connections {
            let (target, done) = (target.clone(), done.clone());
            tasks.push(local.spawn_local(async move {
                let mut asker = Asker::connect(&target).await?;
                while Instant::now() < until {
                    asker.ask(&target).await?;
                    done.set(done.get() + 1);
                }
                Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
            }));
        }
        local
            .run_until(async move {
                for task in tasks {
                    task.await??;
                }
                let took = started.elapsed().as_secs_f64();
                let n = done.get();
                println!(r#"{{"requests":{n},"seconds":{took:.3},"rps":{:.0}}}"#, n as f64 / took);
                Ok(())
            })
            .await
    })
}

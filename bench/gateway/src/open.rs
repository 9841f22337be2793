//! Open loop: requests at a fixed rate, whatever the answers do, and latency from the moment each was *meant* to be
//! sent: a gateway that stalls pays for all that should have come meanwhile.
//!
//! A thread a connection, each with every n-th place in the schedule: a runtime's timer has a grain of a millisecond.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::{Args, Target};
use crate::closed::check;
use crate::plan::Plan;
use crate::wire::{self, Chunks, Length};

struct Asker {
    stream: TcpStream,
    buffer: Vec<u8>,
    body: Vec<u8>,
}

impl Asker {
    fn more(&mut self) -> Result<usize> {
        let at = self.buffer.len();
        self.buffer.resize(at + (16 << 10), 0);
        let n = self.stream.read(self.buffer.get_mut(at..).unwrap_or_default())?;
        self.buffer.truncate(at + n);
        if n == 0 { Err("the connection was closed".into()) } else { Ok(n) }
    }

    fn ask(&mut self, target: &Target) -> Result<()> {
        self.stream.write_all(&target.request)?;
        self.buffer.clear();
        self.body.clear();
        let head = loop {
            self.more()?;
            if let Some(head) = wire::head(&self.buffer) {
                break head;
            }
        };
        match head.length {
            Length::Bytes(n) => {
                while self.buffer.len() < head.end + n {
                    self.more()?;
                }
                self.body.extend_from_slice(self.buffer.get(head.end..).unwrap_or_default());
            }
            Length::Chunked => {
                let mut chunks = Chunks::default();
                chunks.feed(self.buffer.get(head.end..).unwrap_or_default(), &mut self.body);
                while !chunks.ended {
                    self.buffer.clear();
                    self.more()?;
                    chunks.feed(&self.buffer, &mut self.body);
                }
            }
        }
        check(head.status, &self.body, target)
    }
}

/// Prints one line of JSON: latencies in µs.
pub(crate) fn run(args: &Args) -> Result<()> {
    let plan = Plan { tokens: args.number("tokens", 8)?, interval_ms: 0, size: args.number("size", 1024)? };
    let target = Arc::new(Target::new(args, &plan, false)?);
    let rate: f64 = args.number("rate", 1000.0)?;
    let connections: u32 = args.number("connections", 32)?;
    let seconds: f64 = args.number("seconds", 10.0)?;
    let warmup: f64 = args.number("warmup", 2.0)?;
    // Threads inherit it: a sleep ends when it should, not up to 50 µs later.
    if std::fs::write("/proc/self/timerslack_ns", "1").is_err() {
        eprintln!("the timer slack cannot be set: latencies are up to 50 µs too long");
    }
    let every = Duration::from_secs_f64(1.0 / rate);
    let started = Instant::now() + Duration::from_millis(100);
    let (measured, ends) = (Duration::from_secs_f64(warmup), Duration::from_secs_f64(warmup + seconds));
    let threads: Vec<_> = (0..connections)
        .map(|first| {
            let target = target.clone();
            std::thread::spawn(move || -> Result<Vec<u32>> {
                let stream = TcpStream::connect(&target.address)?;
                stream.set_nodelay(true)?;
                let mut asker = Asker { stream, buffer: Vec::new(), body: Vec::new() };
                let mut latencies = Vec::new();
                let mut place = first;
                loop {
                    let due = every * place;
                    if due >= ends {
                        return Ok(latencies);
                    }
                    if started + due > Instant::now() {
                        std::thread::sleep((started + due).saturating_duration_since(Instant::now()));
                    }
                    asker.ask(&target)?;
                    if due >= measured {
                        let took = (started + due).elapsed().as_micros();
                        latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
                    }
                    place += connections;
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for thread in threads {
        all.extend(thread.join().map_err(|_| "a client thread ended badly")??);
    }
    all.sort_unstable();
    let at = |q: f64| {
        let place = ((all.len() as f64 * q).ceil() as usize).clamp(1, all.len().max(1)) - 1;
        all.get(place).copied().unwrap_or(0)
    };
    let mean = all.iter().map(|l| f64::from(*l)).sum::<f64>() / all.len().max(1) as f64;
    println!(
        r#"{{"requests":{},"mean_us":{mean:.1},"p50_us":{},"p90_us":{},"p99_us":{},"p999_us":{},"max_us":{}}}"#,
        all.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
    Ok(())
}

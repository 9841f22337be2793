//! Listens to stdin beside the training: frames wait, at most one, until they are asked for; `Stop` is heard at once; the end of
//! stdin ends the process.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use models::train::worker::protocol::{Ask, HEAD, head};

use crate::error::Error;

/// What comes in.
pub(crate) struct Ears {
    frames: Receiver<Result<Ask, Error>>,
    stop: Arc<AtomicBool>,
}

impl Ears {
    /// Begins to listen.
    pub(crate) fn open() -> io::Result<Ears> {
        let (tell, frames) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        thread::Builder::new().name("ears".to_owned()).spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let Some(frame) = read(&mut stdin) else {
                    // Whoever started this is gone, or has no more to ask: nothing is worth being finished.
                    std::process::exit(0);
                };
                match frame {
                    Ok(Ask::Stop) => heard.store(true, Ordering::Release),
                    other => {
                        if matches!(other, Ok(Ask::Fit(_))) {
                            // A word to the training before comes too late for this one.
                            heard.store(false, Ordering::Release);
                        }
                        if tell.send(other).is_err() {
                            return;
                        }
                    }
                }
            }
        })?;
        Ok(Ears { frames, stop })
    }

    /// Waits for the next frame.
    pub(crate) fn next(&self) -> Result<Ask, Error> {
        self.frames.recv().map_err(|_| Error::Broken("stdin has ended".to_owned()))?
    }

    /// Whether the training is to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The next frame; `None` at the end of the stream, in the middle of a frame too.
fn read(stdin: &mut impl Read) -> Option<Result<Ask, Error>> {
    let mut first = [0_u8; HEAD];
    stdin.read_exact(&mut first).ok()?;
    let broken = |e: models::train::worker::protocol::Broken| Error::Broken(e.to_string());
    let (kind, length) = match head(first) {
        Ok(found) => found,
        Err(e) => return Some(Err(broken(e))),
    };
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(length).is_err() {
        return Some(Err(Error::Memory("the table")));
    }
    bytes.resize(length, 0);
    stdin.read_exact(&mut bytes).ok()?;
    Some(Ask::decode(kind, &bytes).map_err(broken))
}

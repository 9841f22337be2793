//! The listener: connections, header limits, and an end that lets streams finish.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use contract::Deadline;
use futures_core::Stream;
use futures_util::StreamExt;
use http::Version;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pipeline::task;
use tokio::net::{TcpListener, TcpStream};

use crate::admin::SeenFrom;
use crate::app::Inner;
use crate::current::Current;
use crate::drain::{Signal, Switch};
use crate::ended::Ended;
use crate::send_limit::SendLimit;
use crate::turn::turns;

/// How long the last words of answers that are cut may take on their way.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bound listener.
#[derive(Debug)]
pub struct Listening {
    listener: TcpListener,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Listening {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Listening { listener, address })
    }

    /// The next connection; nothing, after a moment, when the system gives none.
    pub(crate) async fn accept(&self) -> Option<(TcpStream, SocketAddr)> {
        match self.listener.accept().await {
            Ok(accepted) => {
                // A delayed segment costs a caller 40 ms; a socket that refuses the option still works.
                let _ = accepted.0.set_nodelay(true);
                Some(accepted)
            }
            Err(e) => {
                // Out of file descriptors or the like: let connections end before asking again.
                tracing::warn!(error = %e, "failed to accept a connection");
                task::sleep(Duration::from_millis(50)).await;
                None
            }
        }
    }
}

/// What HTTP/2 opens with when it was not negotiated.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which HTTP the first bytes are; `None` when the peer left before it said anything.
async fn version(stream: &TcpStream) -> Option<Version> {
    let mut head = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut head).await {
            Ok(0) | Err(_) => return None,
            Ok(n) if head.get(..n) != PREFACE.get(..n) => return Some(Version::HTTP_11),
            Ok(n) if n < PREFACE.len() => {
                // A peek does not wait for more than there is.
                task::sleep(Duration::from_millis(20)).await;
            }
            Ok(_) => return Some(Version::HTTP_2),
        }
    }
}

/// Drives a connection to its end: with the answer it is at once the server stops, and at once when it is given up.
///
/// Takes the connection where it is: a future that is handed over by value lies in memory twice.
async fn drive<C: Future<Output = Result<(), hyper::Error>>>(
    mut connection: Pin<&mut C>,
    mut stopping: Signal,
    mut given_up: Signal,
    finish: fn(Pin<&mut C>),
) {
    let mut finishes = false;
    let ended = poll_fn(|cx| {
        let mut polled = connection.as_mut().poll(cx);
        if polled.is_pending() && !finishes && stopping.poll(cx).is_ready() {
            finishes = true;
            finish(connection.as_mut());
            polled = connection.as_mut().poll(cx);
        }
        match polled {
            Poll::Pending => given_up.poll(cx).map(Ok),
            ended => ended,
        }
    });
    if let Err(e) = ended.await {
        tracing::debug!(error = %e, "a connection broke");
    }
}

/// Serves until the first of `signals`, then refuses new requests and lets those under way finish for at most
/// [`crate::Settings::drain`], or until the second. What is still under way then ends with an error. Returns how many
/// answers that were. A connection keeps the limits it began with; each request finds the routes that are current.
pub async fn serve(current: Current, listening: Listening, signals: impl Stream<Item = ()>) -> usize {
    let shared = current.app().inner;
    let cut = until_quiet(&shared, current, listening, signals).await;
    shared.ended.count(&shared.metrics);
    cut
}

async fn until_quiet(
    shared: &Arc<Inner>,
    current: Current,
    listening: Listening,
    signals: impl Stream<Item = ()>,
) -> usize {
    let silence = {
        let current = current.clone();
        move || current.app().generation.settings.send_timeout
    };
    // Dropped, and ended, with this.
    let _readers = task::kept("readers", {
        let (readers, clock) = (shared.readers.clone(), shared.clock.clone());
        move || readers.clone().look(clock.clone(), silence.clone())
    });
    let _replays = task::kept("replays", {
        let (replays, clock) = (shared.replays.clone(), shared.clock.clone());
        move || replays.clone().look(clock.clone())
    });
    let _ended = task::kept("ended", {
        let shared = shared.clone();
        move || Ended::look(shared.clone())
    });
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        // An event, its length and its end in one piece: copying some hundred bytes costs less than a list of four.
        .writev(false)
        .keep_alive(true);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2.timer(TokioTimer::new()).max_concurrent_streams(256).keep_alive_interval(Duration::from_secs(30));
    let (stopping, given_up) = (Switch::default(), Switch::default());
    let mut signals = pin!(signals);
    loop {
        let accepted = tokio::select! {
            accepted = listening.accept() => accepted,
            _ = signals.next() => break,
        };
        let Some((stream, peer)) = accepted else { continue };
        let (mut http1, mut http2, going_on) = (http1.clone(), http2.clone(), shared.drain.conversation());
        let service = SeenFrom::new(current.clone(), peer);
        let (stopping, given_up) = (stopping.clone(), given_up.clone());
        let (clock, app) = (shared.clock.clone(), current.app());
        let (limits, send_timeout) = (app.generation.settings.limits, app.generation.settings.send_timeout);
        let connection = async move {
            let within = Deadline::from_now(clock.now(), limits.read);
            let version = tokio::select! {
                version = task::within(&*clock, within, version(&stream)) => version.ok().flatten(),
                () = stopping.on() => None,
            };
            let Some(version) = version else { return };
            let io = TokioIo::new(SendLimit::new(stream, send_timeout));
            let (stopping, given_up) = (stopping.signal(), given_up.signal());
            match version {
                Version::HTTP_2 => {
                    http2.max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX));
                    // Rare here, and large.
                    let mut connection = Box::pin(http2.serve_connection(io, service));
                    drive(connection.as_mut(), stopping, given_up, |c| c.graceful_shutdown()).await;
                }
                _ => {
                    http1
                        .header_read_timeout(limits.read)
                        .max_headers(limits.headers)
                        .max_buf_size(limits.header_bytes);
                    let connection = pin!(http1.serve_connection(io, service).with_upgrades());
                    drive(connection, stopping, given_up, |c| c.graceful_shutdown()).await;
                }
            }
            drop(going_on);
        };
        task::spawn("connection", turns(connection)).detach();
    }
    current.app().drain();
    // Who has said nothing yet is not waited for, and a connection ends with the answer it is at.
    stopping.turn();
    drop(listening);
    let drain = current.app().generation.settings.drain;
    let mut ended = pin!(shared.drain.quiet());
    tokio::select! {
        () = &mut ended => return 0,
        () = task::sleep(drain) => {}
        _ = signals.next() => {}
    }
    let cut = shared.metrics.in_flight();
    shared.drain.cut_all();
    // Whoever reads gets its error; for whoever does not, the connection breaks, and what it held is given back.
    for give_up in [|_: &Switch| (), Switch::turn] {
        give_up(&given_up);
        tokio::select! {
            () = &mut ended => break,
            () = task::sleep(FAREWELL) => {}
        }
    }
    cut
}

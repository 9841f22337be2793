//! The listener: connections, header limits, and an end that lets streams finish.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use contract::Deadline;
use futures_core::Stream;
use futures_util::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use pipeline::task;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::admin::SeenFrom;
use crate::app::App;
use crate::router::router;
use crate::send_limit::SendLimit;

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
}

/// What HTTP/2 opens with when it was not negotiated.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Resolves once the first bytes tell which HTTP this is; false when the peer left before that. The server builder
/// waits for them without a limit of its own, and a peer that says nothing would hold its connection for ever.
async fn speaks(stream: &TcpStream) -> bool {
    let mut head = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut head).await {
            Ok(0) | Err(_) => return false,
            Ok(n) if n < PREFACE.len() && head.get(..n) == PREFACE.get(..n) => {
                // A peek does not wait for more than there is.
                task::sleep(Duration::from_millis(20)).await;
            }
            Ok(_) => return true,
        }
    }
}

/// Serves until the first of `signals`, then refuses new requests and lets those under way finish for at most `drain`,
/// or until the second. What is still under way then ends with an error. Returns how many answers that were.
pub async fn serve(
    app: App,
    listening: Listening,
    signals: impl Stream<Item = ()>,
    drain: Duration,
) -> usize {
    let service = TowerToHyperService::new(router(app.clone()));
    let (limits, send_timeout) = (app.inner.settings.limits, app.inner.settings.send_timeout);
    // Dropped, and ended, with this.
    let _readers =
        task::spawn("readers", app.inner.readers.clone().look(app.inner.clock.clone(), send_timeout));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.read)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes)
        .keep_alive(true);
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(256)
        .keep_alive_interval(Duration::from_secs(30));
    let http = Arc::new(http);
    let graceful = GracefulShutdown::new();
    let (stopping, given_up) = (CancellationToken::new(), CancellationToken::new());
    let mut signals = std::pin::pin!(signals);
    loop {
        let accepted = tokio::select! {
            accepted = listening.listener.accept() => accepted,
            _ = signals.next() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of file descriptors or the like: let connections end before asking again.
                tracing::warn!(error = %e, "failed to accept a connection");
                task::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // A delayed segment costs a caller 40 ms; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let (http, watcher) = (http.clone(), graceful.watcher());
        let service = SeenFrom::new(service.clone(), peer);
        let (stopping, given_up) = (stopping.clone(), given_up.clone());
        let (clock, read) = (app.inner.clock.clone(), limits.read);
        task::spawn("connection", async move {
            let within = Deadline::from_now(clock.now(), read);
            let speaks = tokio::select! {
                speaks = task::within(&*clock, within, speaks(&stream)) => speaks == Ok(true),
                () = stopping.cancelled() => false,
            };
            if !speaks {
                return;
            }
            let io = TokioIo::new(SendLimit::new(stream, send_timeout));
            let connection = http.serve_connection_with_upgrades(io, service);
            tokio::select! {
                ended = watcher.watch(connection) => {
                    if let Err(e) = ended {
                        tracing::debug!(error = %e, "a connection broke");
                    }
                }
                () = given_up.cancelled_owned() => {}
            }
        })
        .detach();
    }
    app.drain();
    // Who has said nothing yet is not waited for.
    stopping.cancel();
    drop(listening);
    let ended = async {
        graceful.shutdown().await;
        app.inner.drain.quiet().await;
    };
    let mut ended = std::pin::pin!(ended);
    tokio::select! {
        () = &mut ended => return 0,
        () = task::sleep(drain) => {}
        _ = signals.next() => {}
    }
    let cut = app.inner.metrics.in_flight();
    app.inner.drain.cut_all();
    // Whoever reads gets its error; for whoever does not, the connection breaks, and what it held is given back.
    for give_up in [|_: &CancellationToken| (), CancellationToken::cancel] {
        give_up(&given_up);
        tokio::select! {
            () = &mut ended => break,
            () = task::sleep(FAREWELL) => {}
        }
    }
    cut
}

//! The listener: connections, header limits, and an end that lets streams finish.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use pipeline::task;
use tokio::net::TcpListener;

use crate::app::App;
use crate::router::router;
use crate::send_limit::SendLimit;

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

/// Serves until `stop` resolves, then refuses new requests and lets those under way finish for at most `drain`.
/// Returns how many connections were still open at the end.
pub async fn serve(app: App, listening: Listening, stop: impl Future<Output = ()>, drain: Duration) -> usize {
    let service = TowerToHyperService::new(router(app.clone()));
    let limits = app.inner.settings.limits;
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(15))
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes)
        .keep_alive(true);
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listening.listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of file descriptors or the like: let connections end before asking again.
                tracing::warn!(error = %e, "failed to accept a connection");
                task::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // A delayed segment costs a caller 40 ms; a socket that refuses the option still works.
        let _ = stream.set_nodelay(true);
        let connection = http
            .serve_connection_with_upgrades(
                TokioIo::new(SendLimit::new(stream, app.inner.settings.send_timeout)),
                service.clone(),
            )
            .into_owned();
        let watched = graceful.watch(connection);
        task::spawn("connection", async move {
            if let Err(e) = watched.await {
                tracing::debug!(error = %e, "a connection broke");
            }
        })
        .detach();
    }
    app.drain();
    drop(listening);
    let open = graceful.count();
    tokio::select! {
        () = graceful.shutdown() => 0,
        () = task::sleep(drain) => open,
    }
}

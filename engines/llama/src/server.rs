//! The socket, its connections, and how the process ends.
//!
//! The process ends when it gets SIGTERM or SIGINT (running answers may finish), when the engine ends, or when its parent is
//! gone (at once).

use std::{
    io::{ErrorKind, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream as StdUnixStream},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::http::App;

/// How long answers may take to finish after a signal.
const DRAIN: Duration = Duration::from_secs(30);
/// Pause after a failed accept, such as when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until a signal comes or `engine_ended` resolves.
///
/// # Errors
/// If the socket cannot be bound, or if the engine ended by itself.
pub(crate) async fn serve(
    app: App,
    socket: &Path,
    mut engine_ended: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let listener = bind(socket)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    announce()?;

    let app = Arc::new(app);
    let connections = GracefulShutdown::new();
    let failed = loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let app = Arc::clone(&app);
                    let service = service_fn(move |request| Arc::clone(&app).answer(request));
                    let connection = connections.watch(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                    #[expect(clippy::disallowed_methods, reason = "the accept loop of a binary: a connection ends with its client or by the drain")]
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::debug!(%error, "a connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            _ = &mut engine_ended => break true,
        }
    };
    drop(listener);
    drop(app);
    if let Err(error) = std::fs::remove_file(socket) {
        tracing::debug!(%error, "the socket is gone already");
    }
    if failed {
        bail!("the engine ended by itself");
    }
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        tracing::warn!("some answers did not finish in time");
    }
    Ok(())
}

/// Binds a socket that only this user can reach.
fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    if socket.exists() {
        match StdUnixStream::connect(socket) {
            Ok(_) => {
                bail!("{} is in use by another process: stop it or choose another --socket", socket.display())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(socket)
                .with_context(|| format!("failed to remove the stale socket {}", socket.display()))?,
            Err(error) => bail!("{} exists and is not a socket of this worker: {error}", socket.display()),
        }
    }
    let listener = UnixListener::bind(socket).with_context(|| {
        format!(
            "failed to listen on {}: is its folder there and writable, and the path under 100 bytes?",
            socket.display()
        )
    })?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Tells the parent that requests are answered from now on.
fn announce() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "ready")?;
    stdout.flush()?;
    Ok(())
}

/// Ends the process when stdin reaches its end.
///
/// # Errors
/// If no thread can be started.
pub(crate) fn exit_with_parent() -> anyhow::Result<()> {
    thread::Builder::new().name("parent".to_owned()).spawn(|| {
        let mut ignored = [0; 256];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut ignored) {
                Ok(0) => break,
                Err(error) if error.kind() != ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        leave();
    })?;
    Ok(())
}

/// Ends the process at once. `std::process::exit` would run the destructors of ggml's statics beside the thread that
/// computes with them, and crash.
#[expect(unsafe_code, reason = "the standard library has no exit without destructors")]
fn leave() -> ! {
    unsafe extern "C" {
        fn _exit(status: std::ffi::c_int) -> !;
    }
    // SAFETY: POSIX's `_exit` takes any status, touches no memory of ours and does not return.
    unsafe { _exit(0) }
}

//! Listening, connections, and the handle of a running fake.
//!
//! HTTP/1.1 by hyper, one task per connection. hyper reads while an answer is pending, so that a closed connection drops
//! the answer at once, also while it is silent. Connections are owned by the accept loop: with it they end.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    str::FromStr,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::{AbortHandle, JoinSet},
};

use crate::{
    Error,
    body::ResetFlag,
    log::{RequestEnd, RequestRecord},
    script::Script,
    service::{self, Shared},
};

/// Where a fake listens: `127.0.0.1:9000` or `unix:/run/fake.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket. A socket file that nobody listens on is replaced; it is removed at the end.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            Some(_) => Err(Error::Address(text.to_owned())),
            None => text.parse().map(Self::Tcp).map_err(|_| Error::Address(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A fake that listens and does not answer yet: call [`run`](Self::run).
#[derive(Debug)]
pub struct FakeUpstream {
    listener: Listener,
    address: Address,
    shared: Arc<Shared>,
}

impl FakeUpstream {
    /// Starts a fake on a free port of the loopback interface; it runs until the handle is dropped.
    ///
    /// Needs a tokio runtime with I/O and time. Connections are answered on that runtime.
    ///
    /// # Errors
    /// [`Error::Script`] or [`Error::Bind`].
    pub async fn start(script: Script) -> Result<Handle, Error> {
        Self::start_on(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))), script).await
    }

    /// Starts a fake on an address; it runs until the handle is dropped.
    ///
    /// # Errors
    /// [`Error::Script`] or [`Error::Bind`].
    pub async fn start_on(address: Address, script: Script) -> Result<Handle, Error> {
        let fake = Self::bind(address, script).await?;
        let (address, shared) = (fake.address.clone(), Arc::clone(&fake.shared));
        #[expect(clippy::disallowed_methods, reason = "the handle owns the task and ends it when dropped")]
        let accept = tokio::spawn(fake.accept()).abort_handle();
        Ok(Handle { address, shared, accept })
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// [`Error::Script`] or [`Error::Bind`].
    pub async fn bind(address: Address, script: Script) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(script)?);
        let failed = |source| Error::Bind { address: address.to_string(), source };
        let listener = Listener::bind(&address).await.map_err(failed)?;
        let address = match &listener {
            Listener::Tcp(listener) => Address::Tcp(listener.local_addr().map_err(failed)?),
            Listener::Unix(..) => address,
        };
        Ok(Self { listener, address, shared })
    }

    /// The address it listens on, with the port it was given.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Answers requests until `shutdown` is ready; then closes every connection.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.accept() => {}
            () = async { shutdown.await; shared.log.stop() } => {}
        }
    }

    async fn accept(self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(connection) => {
                        connections.spawn(serve_connection(Arc::clone(&self.shared), connection));
                    }
                    // Out of files or a connection gone before it was accepted: the next may succeed.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// Serves a fake on an address until `shutdown` is ready.
///
/// # Errors
/// [`Error::Script`] or [`Error::Bind`], before the first request.
pub async fn serve(
    address: Address,
    script: Script,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    FakeUpstream::bind(address, script).await?.run(shutdown).await;
    Ok(())
}

/// A running fake. Dropped, it stops: its connections are closed, requests in progress end as `Stopped`.
#[derive(Debug)]
pub struct Handle {
    address: Address,
    shared: Arc<Shared>,
    accept: AbortHandle,
}

impl Handle {
    /// The base URL without `/v1`, as `http://127.0.0.1:40000`; of a Unix socket `http://localhost`.
    pub fn base_url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(_) => "http://localhost".to_owned(),
        }
    }

    /// The address it listens on.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The TCP address, if it listens on one.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self.address {
            Address::Tcp(address) => Some(address),
            Address::Unix(_) => None,
        }
    }

    /// The path of the Unix socket, if it listens on one.
    pub fn unix_path(&self) -> Option<&Path> {
        match &self.address {
            Address::Tcp(_) => None,
            Address::Unix(path) => Some(path),
        }
    }

    /// Puts another script in force; its faults count requests from now. Requests in progress keep the old one.
    ///
    /// # Errors
    /// [`Error::Script`].
    pub fn set_script(&self, script: Script) -> Result<(), Error> {
        self.shared.set_script(script)
    }

    /// The script in force.
    pub fn script(&self) -> Script {
        self.shared.script()
    }

    /// The recorded requests to models, oldest first.
    pub fn log(&self) -> Vec<RequestRecord> {
        self.shared.log.records()
    }

    /// Forgets the recorded requests. Numbers go on.
    pub fn clear_log(&self) {
        self.shared.log.clear();
    }

    /// Waits until a request has arrived, with its body; number 1 is the first since the start. Cancel-safe, no deadline.
    ///
    /// # Errors
    /// [`Error::NotLogged`] if it came and was not recorded.
    pub async fn wait_for_arrival(&self, request_no: u64) -> Result<RequestRecord, Error> {
        self.shared.log.wait(request_no, |record| Some(record.clone())).await
    }

    /// Waits until at least `tokens` of the answer were handed to the connection (0: its first byte). Cancel-safe, no deadline.
    ///
    /// # Errors
    /// [`Error::NotLogged`] if the request came and was not recorded.
    pub async fn wait_for_tokens(&self, request_no: u64, tokens: u64) -> Result<RequestRecord, Error> {
        let reached = |record: &RequestRecord| record.first_byte.is_some() && record.tokens_sent >= tokens;
        self.shared.log.wait(request_no, |record| reached(record).then(|| record.clone())).await
    }

    /// Waits until a request has ended, however. Cancel-safe, no deadline.
    ///
    /// # Errors
    /// [`Error::NotLogged`] if the request came and was not recorded.
    pub async fn wait_for_end(&self, request_no: u64) -> Result<RequestEnd, Error> {
        self.shared.log.wait(request_no, |record| record.end).await
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.log.stop();
        self.accept.abort();
    }
}

async fn serve_connection(shared: Arc<Shared>, mut connection: Connection) {
    let reset = Arc::clone(&connection.reset);
    if let Socket::Tcp(socket) = &mut connection.socket {
        // Without it an event waits for the acknowledgement of the one before. Failing to set it harms nothing else.
        let _ = socket.set_nodelay(true);
    }
    let service =
        service_fn(move |request| service::handle(Arc::clone(&shared), Arc::clone(&reset), request));
    // An error is a client that left or a fault of the script: both are in the log.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(connection), service).await;
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] SocketFile),
}

/// Removes the socket's file when the listener is gone.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => TcpListener::bind(address).await.map(Self::Tcp),
            Address::Unix(path) => {
                let listener = match UnixListener::bind(path) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        match UnixStream::connect(path).await {
                            Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                                std::fs::remove_file(path)?;
                                UnixListener::bind(path)?
                            }
                            _ => return Err(error),
                        }
                    }
                    bound => bound?,
                };
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    async fn accept(&self) -> io::Result<Connection> {
        let socket = match self {
            Self::Tcp(listener) => Socket::Tcp(listener.accept().await?.0),
            Self::Unix(listener, _) => Socket::Unix(listener.accept().await?.0),
        };
        Ok(Connection { socket, reset: ResetFlag::default() })
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket that closes with a reset if its flag was set.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    reset: ResetFlag,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Socket::Tcp(socket) = &self.socket
            && self.reset.load(Ordering::Acquire)
        {
            let _ = socket.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_read(cx, into),
            Socket::Unix(socket) => Pin::new(socket).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Socket::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Socket::Unix(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Sockets do not buffer.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Socket::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
        }
    }
}

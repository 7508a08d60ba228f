//! The control socket: HTTP over a unix socket, for the command line and for health checks.
//!
//! It runs in a thread of its own, on a runtime of its own, and does nothing but talk: how the
//! daemon does is read from what the others share, commands are handed over and awaited. Nothing a
//! client does can hold up the guard: requests are bounded in size, time and number, one to a
//! connection.
//!
//! Who is asking is known from the kernel (`SO_PEERCRED`), not from the request. Root may do
//! everything; members of the group `steadfast` may read; nobody else gets an answer.

mod caller;
#[cfg(fuzzing)]
mod fuzz;
mod lines;
mod peer;
mod routes;
mod serve;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

#[cfg(fuzzing)]
pub use self::fuzz::fuzz;
use self::socket::Socket;
use super::api;
use super::health::Health;
use crate::attribute::Named;

/// Has the status brought up to date unless it was lately, within this time. It must not block
/// for long: a guard that is busy has said not long ago how things are.
pub type Refresh = Arc<dyn Fn(Duration) + Send + Sync>;

/// Says that something is wrong with the socket.
pub type Alarm = Arc<dyn Fn(String) + Send + Sync>;

/// Takes a command and must not block; the report goes into the reply when it is done. A
/// reply that is dropped tells the client that the daemon gave up.
pub type CommandSink = Arc<dyn Fn(api::Command, api::Request, Reply) + Send + Sync>;

/// Where the report of a command goes.
#[derive(Debug)]
pub struct Reply {
    report: oneshot::Sender<api::Report>,
    /// How far it is, for whoever waits.
    pub gauge: Arc<api::Gauge>,
    /// Which process waits for it.
    pub by: Box<Named>,
}

impl Reply {
    /// Sends the report. Whoever asked may have gone away meanwhile.
    pub fn send(self, report: api::Report) {
        let _ = self.report.send(report);
    }
}

/// Has health served somewhere else on loopback, or nowhere.
#[derive(Clone, Debug)]
pub struct HealthListener(mpsc::UnboundedSender<Option<TcpListener>>);

impl HealthListener {
    /// From now on it is served there.
    pub fn replace(&self, listener: Option<TcpListener>) {
        // Where nothing is served any more, nothing is to be replaced.
        let _ = self.0.send(listener);
    }
}

/// Why the control socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody answers there.
    #[error("another steadfast answers on {}: stop it first", crate::text::escape_path(.0))]
    InUse(PathBuf),
    /// Something else has the name.
    #[error(
        "{} is not a socket: move it away, or set `control` to another path",
        crate::text::escape_path(.0)
    )]
    NotASocket(PathBuf),
    /// The kernel takes no such address.
    #[error(
        "the control socket's path {} is longer than {} bytes: set `control` to a shorter one",
        crate::text::escape_path(.0),
        crate::config::SOCKET_PATH_MAX
    )]
    TooLong(PathBuf),
    /// The socket cannot be made.
    #[error("the control socket {} cannot be made: {source}", crate::text::escape_path(.path))]
    Socket {
        /// Its path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address for health checks cannot be had.
    #[error("health cannot be served on {address}: {source}; set `listen` to a free address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread or event loop.
    #[error("the control socket's thread cannot be started: {0}")]
    Thread(io::Error),
}

/// Where it is served.
#[derive(Debug)]
pub struct At<'a> {
    /// The control socket.
    pub path: &'a Path,
    /// The socket itself, if the service manager made it.
    pub handed: Option<OwnedFd>,
    /// Health only, over TCP.
    pub listen: Option<SocketAddr>,
}

/// The running server. Dropping it stops it, and takes the socket away if it is its own.
#[derive(Debug)]
pub struct Control {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    address: Option<SocketAddr>,
    changes: HealthListener,
    /// Dropped last, so that the name goes when nobody answers any more.
    _socket: Arc<Socket>,
}

impl Control {
    /// Serves the control socket, and health.
    ///
    /// The socket's directory is made with mode 0755 where it is missing. The socket has mode
    /// 0660 and the group `steadfast` where there is one, else mode 0600. One that was handed
    /// over is used if it is at the right path, and stays when this ends.
    ///
    /// # Errors
    ///
    /// A socket or address that cannot be had, or no thread.
    pub fn start(
        at: At<'_>,
        (health, refresh, alarm): (Arc<Health>, Refresh, Alarm),
        commands: CommandSink,
    ) -> Result<Self, ControlError> {
        let (socket, listener) = Socket::have(at.path, at.handed)?;
        let loopback = at.listen.map(bind_health).transpose()?;
        let address = loopback.as_ref().and_then(|bound| bound.local_addr().ok());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(ControlError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let (changes, changed) = mpsc::unbounded_channel();
        let readers = socket.group();
        let app = routes::App { health, refresh, alarm, commands, readers };
        let socket = Arc::new(socket);
        let name = Arc::clone(&socket);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    if let Err(error) =
                        serve::serve(app, (name, listener), (loopback, changed), stopped).await
                    {
                        tracing::error!("the control socket is not served: {error}");
                    }
                });
                // What a client still waits for does not hold up the end.
                runtime.shutdown_background();
            })
            .map_err(ControlError::Thread)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            address,
            changes: HealthListener(changes),
            _socket: socket,
        })
    }

    /// To have health served somewhere else.
    #[must_use]
    pub fn health_listener(&self) -> HealthListener {
        self.changes.clone()
    }

    /// Where health is served, with the port that the kernel chose where `listen` said 0.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.address
    }
}

/// Has the kernel listen there.
///
/// # Errors
/// When the address cannot be had.
pub fn bind_health(address: SocketAddr) -> Result<TcpListener, ControlError> {
    let refused = |source| ControlError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

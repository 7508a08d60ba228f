//! The accept loops: bounded in connections, in time, and in what one peer can take from
//! another.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::Alarm;
use super::caller::Caller;
use super::peer::{Rights, rights};
use super::routes::{App, router};
use super::socket::Socket;
use crate::daemon::health::Health;
use crate::text::escape_path;

/// Connections at once: root's own, so that nobody can keep root out, those of others, and those
/// that only ask how it is.
const ROOT_CONNECTIONS: usize = 32;
const OTHER_CONNECTIONS: usize = 16;
const HEALTH_CONNECTIONS: usize = 16;
/// How long a peer may take to send its request line and headers.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// How often it is seen to that the socket still has its name, and shows that it goes on: both at
/// once, for each wakes an idle machine.
const ROUND: Duration = Duration::from_secs(5);
/// Who is being answered when it ends has so long.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long to wait when the kernel has no descriptor to spare.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// Serves until told to stop; whoever was accepted by then is answered.
pub(super) async fn serve(
    app: App,
    (socket, unix): (Arc<Socket>, std::os::unix::net::UnixListener),
    (health, changed): (Option<std::net::TcpListener>, Changes),
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let unix = UnixListener::from_std(unix)?;
    let health = health.map(TcpListener::from_std).transpose()?;
    let (readers, alive) = (app.readers, Arc::clone(&app.health));
    let alarm = Arc::clone(&app.alarm);
    let router = router(app);
    let seats = Seats::new();
    let began = Instant::now();
    tokio::select! {
        () = serve_name(unix, (&socket, began), &alarm, |unix| {
            serve_unix(unix, readers, router.clone(), &seats)
        }) => {}
        () = serve_health(health, changed, &router, &seats) => {}
        () = live(&alive, began) => {}
        _ = stopped => {}
    }
    // Whoever takes longer is told nothing.
    let _ = tokio::time::timeout(FAREWELL, seats.all_free()).await;
    Ok(())
}

/// How many are answered at once.
struct Seats {
    root: Arc<Semaphore>,
    others: Arc<Semaphore>,
    health: Arc<Semaphore>,
    /// Those who ask how it is, in the order in which they came.
    asking: Mutex<VecDeque<AbortHandle>>,
}

impl Seats {
    fn new() -> Self {
        Self {
            root: Arc::new(Semaphore::new(ROOT_CONNECTIONS)),
            others: Arc::new(Semaphore::new(OTHER_CONNECTIONS)),
            health: Arc::new(Semaphore::new(HEALTH_CONNECTIONS)),
            asking: Mutex::default(),
        }
    }

    /// A seat, for whoever may have one. Who finds none is hung up on: it can try again, and nobody
    /// waits for it.
    async fn find(&self, rights: Rights) -> Option<OwnedSemaphorePermit> {
        match rights {
            Rights::Change => Arc::clone(&self.root).try_acquire_owned().ok(),
            Rights::Read | Rights::Nothing => Arc::clone(&self.others).try_acquire_owned().ok(),
            Rights::Health => self.find_for_health().await,
        }
    }

    /// Everybody may ask how it is, and has the answer in a moment: who came first and says nothing
    /// makes room.
    async fn find_for_health(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(seat) = Arc::clone(&self.health).try_acquire_owned() {
            return Some(seat);
        }
        let first = self.asking.lock().ok()?.pop_front();
        first.inspect(AbortHandle::abort);
        Arc::clone(&self.health).acquire_owned().await.ok()
    }

    /// It has a seat until it has its answer.
    fn seated(&self, rights: Rights, connection: AbortHandle) {
        if let (Rights::Health, Ok(mut asking)) = (rights, self.asking.lock()) {
            asking.retain(|one| !one.is_finished());
            asking.push_back(connection);
        }
    }

    /// Waits until nobody is being answered.
    async fn all_free(&self) {
        let all = [
            (&self.root, ROOT_CONNECTIONS),
            (&self.others, OTHER_CONNECTIONS),
            (&self.health, HEALTH_CONNECTIONS),
        ];
        for (seats, count) in all {
            let _ = seats.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await;
        }
    }
}

/// Serves, and has the name again where somebody takes it away.
async fn serve_name<F: Future<Output = ()>>(
    mut listener: UnixListener,
    (socket, began): (&Socket, Instant),
    alarm: &Alarm,
    serve: impl Fn(UnixListener) -> F,
) {
    loop {
        let new = tokio::select! {
            () = serve(listener) => return,
            new = name_lost(socket, began, alarm) => new,
        };
        match UnixListener::from_std(new) {
            Ok(new) => listener = new,
            Err(error) => {
                tracing::error!("the control socket is not served: {error}");
                return std::future::pending().await;
            }
        }
    }
}

/// Waits until the name is taken away, and returns what listens there instead.
async fn name_lost(
    socket: &Socket,
    began: Instant,
    alarm: &Alarm,
) -> std::os::unix::net::UnixListener {
    let path = escape_path(socket.path());
    let mut told = String::new();
    let mut rounds = rounds(began);
    loop {
        rounds.tick().await;
        let why = match socket.renewed() {
            None => continue,
            Some(Ok(new)) => {
                alarm(format!("somebody took the control socket {path} away; it was made again"));
                return new;
            }
            Some(Err(error)) => error.to_string(),
        };
        if told != why {
            alarm(format!("somebody took the control socket {path} away: {why}"));
            told = why;
        }
    }
}

async fn serve_unix(listener: UnixListener, readers: Option<u32>, router: Router, seats: &Seats) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let Ok(peer) = stream.peer_cred() else { continue };
        let rights = rights(peer.uid(), peer.gid(), peer.pid(), readers);
        let caller = Caller::of(&stream, peer.pid());
        answer(stream, (rights, caller), &router, seats).await;
    }
}

/// Where health is to be served from now on.
type Changes = mpsc::UnboundedReceiver<Option<std::net::TcpListener>>;

async fn serve_health(
    mut listener: Option<TcpListener>,
    mut changed: Changes,
    router: &Router,
    seats: &Seats,
) {
    loop {
        let next = tokio::select! {
            () = serve_loopback(listener, router, seats) => return,
            next = changed.recv() => next,
        };
        let Some(next) = next else { return std::future::pending().await };
        listener = next.and_then(|bound| match TcpListener::from_std(bound) {
            Ok(listener) => Some(listener),
            Err(error) => {
                tracing::error!("health is not served on loopback: {error}");
                None
            }
        });
    }
}

async fn serve_loopback(listener: Option<TcpListener>, router: &Router, seats: &Seats) {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                answer(stream, (Rights::Health, Caller::default()), router, seats).await;
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Shows again and again that this thread goes on.
async fn live(health: &Health, began: Instant) {
    let mut rounds = rounds(began);
    loop {
        health.control.work();
        rounds.tick().await;
    }
}

/// At the same moments for whoever asks.
fn rounds(began: Instant) -> Interval {
    let mut rounds = tokio::time::interval_at(began + ROUND, ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    rounds
}

/// An accept fails for one peer, or because the process is out of descriptors; either passes.
async fn pause(error: &io::Error) {
    tracing::warn!("a connection to the control socket failed: {error}");
    tokio::time::sleep(EXHAUSTED_PAUSE).await;
}

/// Answers one request and hangs up, if there is a seat.
async fn answer<S>(stream: S, (rights, caller): (Rights, Caller), router: &Router, seats: &Seats)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Some(seat) = seats.find(rights).await else { return };
    let router = router.clone();
    let conversation = tokio::spawn(async move {
        let _seat = seat;
        converse(stream, (rights, caller), router).await;
    });
    seats.seated(rights, conversation.abort_handle());
}

/// Takes one request and answers it.
pub(super) async fn converse<S>(stream: S, (rights, caller): (Rights, Caller), router: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service =
        TowerToHyperService::new(router.layer(Extension(rights)).layer(Extension(caller)));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_headers(32)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A peer that breaks off is its own affair.
    let _ = connection.await;
}

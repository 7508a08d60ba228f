//! The other end of the control socket.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::progress::Progress;
use crate::config::{SOCKET_PATH_MAX, USUAL_SOCKET};
use crate::daemon::api;
use crate::text::{escape, escape_path};

/// The daemon answers what it knows at once.
const STATUS_TIME: Duration = Duration::from_secs(5);
/// While it carries out a command it says how far it is every second; one that is silent for this
/// long hangs…
const SILENCE: Duration = Duration::from_secs(10);
/// …and so does one that talks, but came no further for this long.
const STANDSTILL: Duration = Duration::from_secs(300);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("no daemon answers on {}: {}", escape_path(.0), how_to_start(.0))]
    NoDaemon(PathBuf),
    #[error("you may not talk to the daemon on {}: use sudo, or join the group steadfast to read its status", escape_path(.0))]
    Denied(PathBuf),
    #[error("the control socket's path {} is longer than {SOCKET_PATH_MAX} bytes: set `control` to a shorter one", escape_path(.0))]
    TooLong(PathBuf),
    #[error("what answers on {} runs as user {uid}, not as root: it is not the daemon; remove it", escape_path(.path))]
    Impostor { path: PathBuf, uid: u32 },
    #[error(
        "the daemon on {} is there but did not answer within {} s: it may be stopped or hang; 'systemctl status steadfast' or its log tells more, and a restart helps",
        escape_path(.path), .time.as_secs()
    )]
    TimedOut { path: PathBuf, time: Duration },
    #[error(
        "the daemon carries this out, but came no further for {} s: it waits for a disk, or hangs; see its log, and then try again",
        STANDSTILL.as_secs()
    )]
    Standstill,
    #[error("{0}")]
    Refused(String),
    #[error("the conversation with the daemon failed: {0}; try again, and see its log")]
    Broken(String),
}

/// The service has the usual socket; whoever named another started the daemon by hand.
fn how_to_start(socket: &Path) -> &'static str {
    match socket == Path::new(USUAL_SOCKET) {
        true => "start it with 'systemctl start steadfast' or 'steadfast run'",
        false => {
            "start it with 'steadfast run' and this configuration, or name the --config of the one \
             that runs"
        }
    }
}

/// What the daemon says of itself.
pub(super) fn status(socket: &Path) -> Result<api::Status, ClientError> {
    block_on(async {
        let answer = Answer::ask(socket, Method::GET, "/status", Bytes::new(), STATUS_TIME).await?;
        let body = answer.rest(STATUS_TIME).await?;
        serde_json::from_slice(&body).map_err(|e| broken(&e))
    })
}

/// Has the daemon carry out a command.
pub(super) fn command(
    socket: &Path,
    command: api::Command,
    request: &api::Request,
    progress: &Progress,
) -> Result<api::Report, ClientError> {
    let body = serde_json::to_vec(request).map_err(|e| broken(&e))?;
    let route = format!("/{}", command.name());
    block_on(async {
        let mut answer = Answer::ask(socket, Method::POST, &route, body.into(), SILENCE).await?;
        let (mut last, mut since) = (api::Progress::default(), Instant::now());
        loop {
            let line = answer.line(SILENCE).await?;
            match serde_json::from_slice(&line).map_err(|e| broken(&e))? {
                api::Line::Report(report) => return Ok(report),
                api::Line::Error(why) => return Err(ClientError::Refused(escape(why.as_bytes()))),
                api::Line::Progress(now) => {
                    if now != last {
                        (last, since) = (now, Instant::now());
                    }
                    progress.tell(now);
                }
            }
            if since.elapsed() > STANDSTILL {
                return Err(ClientError::Standstill);
            }
        }
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| broken(&e))?
        .block_on(work)
}

fn broken(error: &dyn std::error::Error) -> ClientError {
    ClientError::Broken(escape(error.to_string().as_bytes()))
}

/// An answer that is still coming in.
struct Answer<'a> {
    socket: &'a Path,
    body: Incoming,
    /// What came and was not used.
    buffer: Vec<u8>,
    /// Talks as long as this is there.
    _connection: AbortOnDrop,
}

struct AbortOnDrop(tokio::task::JoinHandle<Result<(), hyper::Error>>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'a> Answer<'a> {
    /// Asks, and waits until the answer begins.
    async fn ask(
        socket: &'a Path,
        method: Method,
        route: &str,
        body: Bytes,
        time: Duration,
    ) -> Result<Self, ClientError> {
        let begin = async {
            let stream = connect(socket).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|e| broken(&e))?;
            let connection = AbortOnDrop(tokio::spawn(connection));
            let request = Request::builder()
                .method(method)
                .uri(route)
                .header(header::HOST, "steadfast")
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::ACCEPT, api::LINES)
                .body(Full::new(body))
                .map_err(|e| broken(&e))?;
            let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
            Ok((answer, connection))
        };
        let (answer, connection) = within(socket, time, begin).await?;
        let status = answer.status();
        let body = answer.into_body();
        let answer = Self { socket, body, buffer: Vec::new(), _connection: connection };
        match status {
            StatusCode::OK => Ok(answer),
            _ => Err(refusal(socket, status, &answer.rest(time).await?)),
        }
    }

    /// Waits for more; false at the end.
    async fn more(&mut self, time: Duration) -> Result<bool, ClientError> {
        let frame = async { self.body.frame().await.transpose().map_err(|e| broken(&e)) };
        let Some(frame) = within(self.socket, time, frame).await? else { return Ok(false) };
        if let Some(data) = frame.data_ref() {
            self.buffer.extend_from_slice(data);
        }
        if self.buffer.len() > ANSWER_MAX {
            return Err(ClientError::Broken("the answer does not end".into()));
        }
        Ok(true)
    }

    /// The next line.
    async fn line(&mut self, time: Duration) -> Result<Vec<u8>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            if !self.more(time).await? {
                return Err(ClientError::Broken(
                    "it ended before the command was carried out".into(),
                ));
            }
        }
    }

    /// All of it.
    async fn rest(mut self, time: Duration) -> Result<Vec<u8>, ClientError> {
        while self.more(time).await? {}
        Ok(self.buffer)
    }
}

async fn within<T>(
    socket: &Path,
    time: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let timed_out = || ClientError::TimedOut { path: socket.to_owned(), time };
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(timed_out()))
}

fn refusal(socket: &Path, status: StatusCode, body: &[u8]) -> ClientError {
    #[derive(serde::Deserialize)]
    struct Sentence {
        error: String,
    }
    match serde_json::from_slice::<Sentence>(body) {
        _ if status == StatusCode::FORBIDDEN => ClientError::Denied(socket.to_owned()),
        Ok(Sentence { error }) => ClientError::Refused(escape(error.as_bytes())),
        Err(_) => ClientError::Broken(format!("it answered {status}")),
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    if socket.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
        return Err(ClientError::TooLong(socket.to_owned()));
    }
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::NotADirectory => ClientError::NoDaemon(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ClientError::Denied(socket.to_owned()),
        _ => ClientError::Broken(error.to_string()),
    })?;
    // Whoever else could put a socket there could say that all is well.
    let uid = stream.peer_cred().map_err(|error| ClientError::Broken(error.to_string()))?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        return Err(ClientError::Impostor { path: socket.to_owned(), uid });
    }
    Ok(stream)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

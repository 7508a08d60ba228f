//! The other end of the control socket.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::progress::Progress;
use crate::config::SOCKET_PATH_MAX;
use crate::daemon::api;
use crate::text::{escape, escape_path};

/// The daemon answers what it knows at once.
const STATUS_TIME: Duration = Duration::from_secs(5);
/// A command may have to read and copy a great deal.
const COMMAND_TIME: Duration = Duration::from_secs(3600);
/// The longest answer, in bytes.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("no daemon answers on {}: start it with 'systemctl start steadfast' or 'steadfast run'", escape_path(.0))]
    NoDaemon(PathBuf),
    #[error("you may not talk to the daemon on {}: use sudo, or join the group steadfast to read its status", escape_path(.0))]
    Denied(PathBuf),
    #[error("the control socket's path {} is longer than {SOCKET_PATH_MAX} bytes: set `control` to a shorter one", escape_path(.0))]
    TooLong(PathBuf),
    #[error("what answers on {} runs as user {uid}, not as root: it is not the daemon; remove it", escape_path(.path))]
    Impostor { path: PathBuf, uid: u32 },
    #[error("the daemon did not answer within {} s: see its log, or restart it", .0.as_secs())]
    TimedOut(Duration),
    #[error("{0}")]
    Refused(String),
    #[error("the conversation with the daemon failed: {0}; try again, and see its log")]
    Broken(String),
}

/// What the daemon says of itself.
pub(super) fn status(socket: &Path) -> Result<api::Status, ClientError> {
    block_on(within(STATUS_TIME, talk(socket, Method::GET, "/status", Bytes::new())))
}

/// Has the daemon carry out a command.
pub(super) fn command(
    socket: &Path,
    command: api::Command,
    request: &api::Request,
    progress: &Progress,
) -> Result<api::Report, ClientError> {
    let body = serde_json::to_vec(request).map_err(|e| ClientError::Broken(e.to_string()))?;
    let route = format!("/{}", command.name());
    block_on(async {
        let talk = within(COMMAND_TIME, talk(socket, Method::POST, &route, body.into()));
        tokio::pin!(talk);
        tokio::select! {
            answer = &mut talk => return answer,
            () = tokio::time::sleep(Progress::moment()) => progress.spin(),
        }
        talk.await
    })
}

fn block_on<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| ClientError::Broken(error.to_string()))?
        .block_on(work)
}

async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    tokio::time::timeout(time, work).await.unwrap_or(Err(ClientError::TimedOut(time)))
}

async fn talk<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    route: &str,
    body: Bytes,
) -> Result<T, ClientError> {
    let broken =
        |error: &dyn std::error::Error| ClientError::Broken(escape(error.to_string().as_bytes()));
    let stream = connect(socket).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(&e))?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(route)
        .header(hyper::header::HOST, "steadfast")
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|e| broken(&e))?;
    let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|e| ClientError::Broken(escape(e.to_string().as_bytes())))?.to_bytes();
    connection.abort();
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|e| broken(&e));
    }
    Err(refusal(socket, status, &body))
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
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;

    use super::*;
    use crate::record::PathText;

    /// What `status` comes to when the other end answers with these bytes.
    fn answered(bytes: &'static [u8]) -> ClientError {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(bytes);
        });
        let error = status(&path).unwrap_err();
        server.join().unwrap();
        error
    }

    #[test]
    fn client_and_server_understand_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let answer = api::Status {
            state: api::State::Watching,
            pid: 1,
            since: jiff::Timestamp::UNIX_EPOCH,
            protected: 3,
            sensors: Vec::new(),
            windows: Vec::new(),
            open_incidents: 0,
            shortcomings: Vec::new(),
            worst_case_notice_ms: 1,
        };
        let told = answer.clone();
        let control = crate::daemon::control::Control::start(
            &path,
            Arc::new(move || told.clone()),
            Arc::new(|command, request, sender| {
                let path = request.paths[0].clone();
                let message = format!("{} {:?}", command.name(), request.reason);
                let _ = sender.send(api::Report {
                    paths: vec![api::PathReport { path, message, done: true }],
                });
            }),
            None,
        )
        .unwrap();
        assert_eq!(status(&path).unwrap(), answer);
        let odd = PathText::new(Path::new(std::ffi::OsStr::from_bytes(b"/\xff\n")));
        let request = api::Request { paths: vec![odd.clone()], reason: Some("why".to_owned()) };
        let report = command(&path, api::Command::Accept, &request, &Progress::new("")).unwrap();
        assert_eq!(report.paths[0].path, odd);
        assert_eq!(report.paths[0].message, "accept Some(\"why\")");
        let nothing = api::Request { paths: Vec::new(), reason: None };
        let refused = command(&path, api::Command::Accept, &nothing, &Progress::new(""));
        assert_eq!(refused.unwrap_err().to_string(), "the request names no path");
        drop(control);
        assert!(matches!(status(&path), Err(ClientError::NoDaemon(_))));
    }

    #[test]
    fn nobody_there_is_no_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        assert!(matches!(status(&path), Err(ClientError::NoDaemon(_))));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(status(&path), Err(ClientError::NoDaemon(_))));
        assert!(matches!(status(&path.join("below")), Err(ClientError::NoDaemon(_))));
        let long = directory.path().join("x".repeat(200));
        assert!(matches!(status(&long), Err(ClientError::TooLong(_))));
    }

    #[test]
    fn rubbish_and_refusals_become_one_safe_sentence() {
        for rubbish in [
            &b""[..],
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
            b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(matches!(answered(rubbish), ClientError::Broken(_)));
        }
        let error = answered(
            b"HTTP/1.1 400 Bad\r\nContent-Length: 23\r\n\r\n{\"error\":\"no\\u001b[\\n\"}",
        );
        assert_eq!(error.to_string(), "no\\x1b[\\n");
        let error = answered(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(error, ClientError::Denied(_)));
    }
}

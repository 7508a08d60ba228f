//! The server, over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::record::PathText;

fn a_status(state: api::State) -> api::Status {
    api::Status {
        state,
        pid: 1,
        since: jiff::Timestamp::UNIX_EPOCH,
        protected: 2,
        sensors: Vec::new(),
        windows: Vec::new(),
        open_incidents: 0,
        shortcomings: Vec::new(),
        worst_case_notice_ms: 1000,
        selftest: None,
        own: Vec::new(),
    }
}

struct Server {
    _directory: tempfile::TempDir,
    path: PathBuf,
    health: Arc<Health>,
    control: Option<Control>,
}

/// A server whose commands succeed for every path but those that end in `drop`.
fn server() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/control.sock");
    let health = Health::new(a_status(api::State::Watching));
    let commands: CommandSink = Arc::new(|command, request, reply| {
        if request.paths.iter().any(|path| path.path.ends_with("drop")) {
            return;
        }
        let paths = request
            .paths
            .into_iter()
            .map(|path| api::PathReport { path, message: command.name().to_owned(), done: true })
            .collect();
        reply.send(api::Report { paths, ..Default::default() });
    });
    let control = Control::start(
        At { path: &path, handed: None, listen: Some("127.0.0.1:0".parse().unwrap()) },
        (Arc::clone(&health), Arc::new(|_| ()), Arc::new(|_| ())),
        commands,
    )
    .unwrap();
    Server { _directory: directory, path, health, control: Some(control) }
}

fn ask(mut stream: impl Read + Write, head: &str, body: &[u8]) -> String {
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n").unwrap();
    // The server may refuse before it has read everything.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn ask_unix(path: &Path, head: &str, body: &[u8]) -> String {
    ask(UnixStream::connect(path).unwrap(), head, body)
}

fn request(path: &str) -> Vec<u8> {
    let paths = vec![PathText::new(Path::new(path))];
    serde_json::to_vec(&api::Request { paths, reason: None }).unwrap()
}

#[test]
fn status_is_told_and_commands_are_carried_out() {
    let server = server();
    let answer = ask_unix(&server.path, "GET /status", b"");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"protected\":2"), "{answer}");
    for command in ["protect", "release", "restore", "accept"] {
        let answer = ask_unix(&server.path, &format!("POST /{command}"), &request("/a"));
        assert!(answer.contains(&format!("\"message\":\"{command}\"")), "{answer}");
    }
}

#[test]
fn what_cannot_be_a_request_is_refused_with_a_sentence() {
    let server = server();
    for (head, body, code, why) in [
        ("GET /nothing", b"".to_vec(), "404", "nothing at /nothing"),
        ("GET /protect", b"".to_vec(), "405", "GET is not"),
        ("POST /protect", b"{".to_vec(), "400", "expected form"),
        ("POST /protect", b"{\"paths\":[]}".to_vec(), "400", "names no path"),
        ("POST /protect", request("a"), "400", "not absolute"),
        ("POST /protect", request("/a\0"), "400", "NUL"),
        ("POST /protect", request(&"/a".repeat(3000)), "400", "longer than"),
        ("POST /protect", vec![b' '; 2 << 20], "413", "1 MiB"),
        ("POST /protect", request("/drop"), "500", "gave up"),
    ] {
        let answer = ask_unix(&server.path, head, &body);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{head}: {answer}");
        assert!(answer.contains(why), "{head}: {answer}");
    }
}

#[test]
fn health_is_served_on_tcp_and_nothing_else_is() {
    let server = server();
    let address = server.control.as_ref().unwrap().health_address().unwrap();
    let ask_tcp = |head: &str| ask(TcpStream::connect(address).unwrap(), head, b"");
    assert!(ask_tcp("GET /livez").starts_with("HTTP/1.1 200"));
    assert!(ask_tcp("GET /readyz").starts_with("HTTP/1.1 200"));
    assert!(ask_tcp("GET /status").starts_with("HTTP/1.1 403"));
    assert!(ask_tcp("POST /protect").starts_with("HTTP/1.1 403"));
    assert!(ask_tcp("GET /metrics").contains("\nsteadfast_protected_files 2\n"));
    for (state, code) in [
        (api::State::Starting, "503"),
        (api::State::Degraded, "200"),
        (api::State::Draining, "503"),
    ] {
        server.health.with_status(|status| status.state = state);
        let answer = ask_tcp("GET /readyz");
        assert!(answer.starts_with(&format!("HTTP/1.1 {code}")), "{state:?}: {answer}");
        assert!(answer.contains(&state.to_string()), "{state:?}: {answer}");
        assert!(ask_tcp("GET /livez").starts_with("HTTP/1.1 200"), "{state:?}");
    }
}

#[test]
fn the_socket_is_closed_to_others_and_goes_with_the_server() {
    let mut server = server();
    let mode = std::fs::metadata(&server.path).unwrap().permissions().mode() & 0o777;
    assert!([0o600, 0o660].contains(&mode), "{mode:o}");
    server.control = None;
    assert!(!server.path.exists());
}

#[test]
fn a_server_that_ends_leaves_another_socket_of_the_name_alone() {
    let mut server = server();
    std::fs::remove_file(&server.path).unwrap();
    let _other = UnixListener::bind(&server.path).unwrap();
    server.control = None;
    assert!(server.path.exists());
}

#[test]
fn a_socket_that_was_left_over_is_replaced_and_anything_else_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    let (_socket, _listener) = Socket::bind(&path).unwrap();
    assert!(matches!(Socket::bind(&path), Err(ControlError::InUse(_))));
    let file = directory.path().join("file");
    std::fs::write(&file, b"kept").unwrap();
    assert!(matches!(Socket::bind(&file), Err(ControlError::NotASocket(_))));
    std::os::unix::fs::symlink(&file, directory.path().join("link")).unwrap();
    let link = directory.path().join("link");
    assert!(matches!(Socket::bind(&link), Err(ControlError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    let long = directory.path().join("x".repeat(120));
    assert!(matches!(Socket::bind(&long), Err(ControlError::TooLong(_))));
}

#[test]
fn silent_peers_keep_nobody_out() {
    let server = server();
    let _silent: Vec<_> = (0..20).map(|_| UnixStream::connect(&server.path).unwrap()).collect();
    assert!(ask_unix(&server.path, "GET /livez", b"").starts_with("HTTP/1.1 200"));
}

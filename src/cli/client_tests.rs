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
        selftest: None,
        own: Vec::new(),
    };
    let health = crate::daemon::health::Health::new(answer.clone());
    let control = crate::daemon::control::Control::start(
        crate::daemon::control::At { path: &path, handed: None, listen: None },
        (health, Arc::new(|_| ()), Arc::new(|_| ())),
        Arc::new(|command, request, reply| {
            let path = request.paths[0].clone();
            let message = format!("{} {:?}", command.name(), request.reason);
            reply.send(api::Report {
                paths: vec![api::PathReport { path, message, done: true }],
                ..Default::default()
            });
        }),
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
    let error =
        answered(b"HTTP/1.1 400 Bad\r\nContent-Length: 23\r\n\r\n{\"error\":\"no\\u001b[\\n\"}");
    assert_eq!(error.to_string(), "no\\x1b[\\n");
    let error = answered(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    assert!(matches!(error, ClientError::Denied(_)));
}

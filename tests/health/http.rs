//! Questions over the control socket or loopback, as a health check asks them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

/// An answer: the code and the body.
pub type Answer = (u16, String);

/// What the daemon behind the socket says.
pub fn ask(socket: &Path, what: &str) -> Answer {
    try_ask(socket, what).unwrap_or_else(|| panic!("nobody answers on {}", socket.display()))
}

/// The same, where there may be nobody.
pub fn try_ask(socket: &Path, what: &str) -> Option<Answer> {
    question(UnixStream::connect(socket).ok()?, "GET", what)
}

/// What it says on loopback.
pub fn ask_tcp(address: &str, method: &str, what: &str) -> Option<Answer> {
    question(TcpStream::connect(address).ok()?, method, what)
}

fn question(mut stream: impl Read + Write, method: &str, what: &str) -> Option<Answer> {
    write!(stream, "{method} {what} HTTP/1.1\r\nHost: steadfast\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let code = answer.split(' ').nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((code, body.to_owned()))
}

/// Every sample of `/metrics`, by name with labels.
pub fn metrics(socket: &Path) -> BTreeMap<String, f64> {
    let (code, page) = ask(socket, "/metrics");
    assert_eq!(code, 200, "{page}");
    samples(&page)
}

/// The samples of a page.
pub fn samples(page: &str) -> BTreeMap<String, f64> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}")))
        })
        .collect()
}

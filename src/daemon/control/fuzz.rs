//! Requests on the control socket, as bytes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::caller::Caller;
use super::peer::Rights;
use super::routes::{App, router};
use super::serve::converse;
use crate::daemon::api;
use crate::daemon::health::Health;
use crate::daemon::start::starting;

/// Sends the bytes, after one that says who sends them, and takes the answer. No command comes
/// through that names no absolute path, and none from whoever may not change anything.
pub fn fuzz(bytes: &[u8]) {
    let [who, request @ ..] = bytes else { return };
    let rights = match who % 4 {
        0 => Rights::Health,
        1 => Rights::Read,
        _ => Rights::Change,
    };
    let app = App {
        health: Health::new(starting()),
        refresh: Arc::new(|_| ()),
        alarm: Arc::new(|_| ()),
        commands: Arc::new(move |command, request, reply| {
            assert!(rights == Rights::Change, "somebody changed something who may not");
            let mut paths = request.paths.iter().map(|path| path.to_path());
            assert!(command == api::Command::Selftest || paths.all(|path| path.is_absolute()));
            reply.send(api::Report::default());
        }),
        readers: None,
    };
    let answer = answer(app, rights, request);
    assert!(answer.is_some(), "the conversation panicked");
}

/// Nothing, where a socket cannot be had, is an answer too.
fn answer(app: App, rights: Rights, request: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (Ok(runtime), Ok((mut client, server))) = (runtime, UnixStream::pair()) else {
        return Some(answer);
    };
    // All of it finds room in the socket.
    client.write_all(request).and_then(|()| client.shutdown(Shutdown::Write)).ok()?;
    server.set_nonblocking(true).ok()?;
    let served = runtime.block_on(async {
        let Ok(server) = tokio::net::UnixStream::from_std(server) else { return true };
        tokio::spawn(converse(server, (rights, Caller::default()), router(app))).await.is_ok()
    });
    let _ = client.read_to_end(&mut answer);
    served.then_some(answer)
}

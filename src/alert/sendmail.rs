//! Hands a message to the host's own mail system, through the `sendmail` program.
//!
//! Postfix's and Exim's `sendmail` rely on their set-id bits, which is why the second process
//! does not set `no_new_privs` when it uses this route.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lettre::address::Address;
use rustix::fs::MemfdFlags;

use super::handing::{Handed, Trouble};

/// How much of what the program says is read, bytes.
const MAX_WORDS: u64 = 4096;

/// Runs `program`; it is killed at `deadline`. It takes a message for all receivers or none.
pub(super) fn send(
    program: &Path,
    from: &Address,
    mail: &[u8],
    to: &[Address],
    deadline: Instant,
) -> Result<Handed, Trouble> {
    let trouble = |what: String| Trouble(format!("{}: {what}", program.display()));
    let (status, words) =
        run(program, from, mail, to, deadline).map_err(|error| trouble(error.to_string()))?;
    match status {
        Some(status) if status.success() => {
            Ok(Handed { told: to.iter().map(ToString::to_string).collect(), refused: Vec::new() })
        }
        Some(status) => Err(trouble(format!("{status}: {words}"))),
        None => Err(trouble("it did not end, and was killed".to_owned())),
    }
}

/// The exit status, `None` at the deadline, and what the program said.
fn run(
    program: &Path,
    from: &Address,
    mail: &[u8],
    to: &[Address],
    deadline: Instant,
) -> std::io::Result<(Option<ExitStatus>, String)> {
    // Files rather than pipes: neither side can keep the other waiting.
    let mut message = memory_file("message")?;
    message.write_all(mail)?;
    message.rewind()?;
    let mut words = memory_file("words")?;
    let mut child = Command::new(program)
        .args(["-i", "-f"])
        .arg(AsRef::<str>::as_ref(from))
        .arg("--")
        .args(to.iter().map(AsRef::<str>::as_ref))
        .stdin(message)
        .stdout(words.try_clone()?)
        .stderr(Stdio::from(words.try_clone()?))
        .spawn()?;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    words.rewind()?;
    let mut said = Vec::new();
    words.take(MAX_WORDS).read_to_end(&mut said)?;
    Ok((status, String::from_utf8_lossy(&said).trim().to_owned()))
}

fn memory_file(name: &str) -> std::io::Result<File> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(directory: &Path, script: &str) -> std::path::PathBuf {
        let path = directory.join("sendmail");
        // Written by another process: a program that is open for writing here, or in a child
        // that another test is just starting, could not be run.
        let made = Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#])
            .arg(&path)
            .arg(script)
            .status();
        assert!(made.unwrap().success());
        path
    }

    fn send_by(program: &Path, patience: Duration) -> Result<Handed, Trouble> {
        let address: Address = "a@example.com".parse().unwrap();
        let mail = b"Subject: x\r\n\r\n.\r\n";
        send(program, &address, mail, std::slice::from_ref(&address), Instant::now() + patience)
    }

    #[test]
    fn the_program_gets_the_message_and_the_addresses() {
        let directory = tempfile::tempdir().unwrap();
        let taken = directory.path().join("taken");
        let script = format!("{{ echo \"$@\"; cat; }} > {}", taken.display());
        let handed = send_by(&program(directory.path(), &script), Duration::from_secs(60));
        assert_eq!(handed.unwrap().told, ["a@example.com"]);
        let taken = std::fs::read_to_string(taken).unwrap();
        assert_eq!(taken, "-i -f a@example.com -- a@example.com\nSubject: x\r\n\r\n.\r\n");
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let refused = send_by(
            &program(directory.path(), "echo 'no such user' >&2; exit 67"),
            Duration::from_secs(60),
        );
        let Trouble(text) = refused.unwrap_err();
        assert!(text.contains("67") && text.contains("no such user"), "{text}");
        assert!(send_by(Path::new("/nowhere/sendmail"), Duration::ZERO).is_err());
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let hung = send_by(&program(directory.path(), "exec sleep 600"), Duration::ZERO);
        assert!(hung.unwrap_err().0.contains("killed"));
    }
}

//! How a daemon that was started by hand keeps the second process running.
//!
//! The process is this same program, started as `steadfast deliver`. Its standard input is a
//! pipe whose other end only the daemon holds: when that closes, because the daemon ends or is
//! killed, the second process ends too. (`PR_SET_PDEATHSIG` would not do: the kernel forgets
//! it when the process becomes another user, and it follows the thread that started the
//! process, not the daemon.)

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Set for the second process when its standard input is such a pipe; its value is `stdin`.
pub(super) const LIFELINE: &str = "STEADFAST_LIFELINE";

/// The longest wait before the process is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A process that has lived so long starts with a clean slate when it ends.
const STABLE: Duration = Duration::from_secs(60);

/// What [`Supervisor::tick`] has done or found.
#[derive(Debug)]
pub enum Turn {
    /// The process was started.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// The process has ended, and is started again after `wait`.
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The wait before it is started again.
        wait: Duration,
    },
    /// The process could not be started; that is tried again after `wait`.
    Failed {
        /// Why.
        error: io::Error,
        /// The wait before the next try.
        wait: Duration,
    },
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("child", &self.child).finish_non_exhaustive()
    }
}

/// Keeps one `steadfast deliver` running. Dropping it ends the process.
pub struct Supervisor {
    start: Box<dyn FnMut() -> io::Result<Child> + Send>,
    child: Option<(Child, Instant)>,
    failures: u32,
    next_start: Option<Instant>,
}

impl Supervisor {
    /// Nothing is started yet. `config` is given to the process as `--config`.
    #[must_use]
    pub fn new(config: Option<PathBuf>) -> Self {
        Self::of(move || spawn(config.as_deref()))
    }

    fn of(start: impl FnMut() -> io::Result<Child> + Send + 'static) -> Self {
        Self { start: Box::new(start), child: None, failures: 0, next_start: None }
    }

    /// Starts the process if it is time, and notices its end. Never blocks; once a second is
    /// often enough. `None` if there is nothing to tell.
    pub fn tick(&mut self, now: Instant) -> Option<Turn> {
        if let Some((child, since)) = &mut self.child {
            // An error can only mean that it is no longer ours to wait for.
            let status = child.try_wait().unwrap_or_else(|_| Some(ExitStatus::default()))?;
            if now.saturating_duration_since(*since) >= STABLE {
                self.failures = 0;
            }
            self.child = None;
            let wait = self.wait(now);
            return Some(Turn::Ended { status, wait });
        }
        if self.next_start.is_some_and(|at| now < at) {
            return None;
        }
        match (self.start)() {
            Ok(child) => {
                let pid = child.id();
                self.child = Some((child, now));
                Some(Turn::Started { pid })
            }
            Err(error) => {
                let wait = self.wait(now);
                Some(Turn::Failed { error, wait })
            }
        }
    }

    /// Asks the process to end and waits for it: at most `patience`, then it is killed. A
    /// message that is being sent has a few seconds to arrive.
    pub fn stop(&mut self, patience: Duration) {
        let Some((mut child, _)) = self.child.take() else { return };
        drop(child.stdin.take());
        let deadline = Instant::now() + patience;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    fn wait(&mut self, now: Instant) -> Duration {
        let wait = Duration::from_secs(1 << self.failures.min(9)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.next_start = Some(now + wait);
        wait
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// Starts `steadfast deliver` as a child whose life hangs on the returned handle's `stdin`.
pub fn spawn(config: Option<&Path>) -> io::Result<Child> {
    // Not the path that it was started from: an upgrade may have put another program there.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("steadfast").arg("deliver");
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.env(LIFELINE, "stdin").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that does nothing but wait for the end of its standard input.
    fn cat() -> io::Result<Child> {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
    }

    #[test]
    fn a_process_that_ends_is_started_again_later_and_later() {
        let mut supervisor = Supervisor::of(|| Command::new("false").spawn());
        let mut now = Instant::now();
        let mut waits = Vec::new();
        while waits.len() < 3 {
            match supervisor.tick(now) {
                Some(Turn::Ended { status, wait }) => {
                    assert!(!status.success());
                    assert!(supervisor.tick(now).is_none(), "started again without waiting");
                    waits.push(wait.as_secs());
                    now += wait;
                }
                Some(Turn::Failed { error, .. }) => panic!("{error}"),
                Some(Turn::Started { .. }) | None => std::thread::yield_now(),
            }
        }
        assert_eq!(waits, [1, 2, 4]);
    }

    #[test]
    fn a_process_that_lived_long_is_started_again_at_once() {
        let mut supervisor = Supervisor::of(cat);
        let now = Instant::now();
        assert!(matches!(supervisor.tick(now), Some(Turn::Started { .. })));
        supervisor.failures = 9;
        drop(supervisor.child.as_mut().and_then(|(child, _)| child.stdin.take()));
        let turn = loop {
            if let Some(turn) = supervisor.tick(now + STABLE) {
                break turn;
            }
        };
        let Turn::Ended { wait, .. } = turn else { panic!("{turn:?}") };
        assert_eq!(wait, Duration::from_secs(1));
    }

    #[test]
    fn a_program_that_cannot_be_started_is_told_and_tried_again() {
        let mut supervisor = Supervisor::of(|| Command::new("/nowhere").spawn());
        let now = Instant::now();
        assert!(matches!(supervisor.tick(now), Some(Turn::Failed { .. })));
        assert!(supervisor.tick(now).is_none());
        assert!(supervisor.tick(now + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn stopping_closes_the_pipe_and_the_process_ends_by_itself() {
        let mut supervisor = Supervisor::of(cat);
        let Some(Turn::Started { pid }) = supervisor.tick(Instant::now()) else { panic!() };
        supervisor.stop(Duration::from_secs(60));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}

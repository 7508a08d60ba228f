//! What the daemon says to the service manager, and what it gets from it.
//!
//! The manager is systemd, over the socket that `NOTIFY_SOCKET` names; where there is none,
//! nothing is said. It is told when everything has been compared with the baseline and not
//! before, and its watchdog is fed only while every thread gets on with its work.

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use super::api::{State, Status};
use super::health::Health;

/// The start may take this much longer, said again and again while it gets on.
const MORE_TIME: Duration = Duration::from_secs(60);
/// How often that is said, and the watchdog fed where it leaves us longer.
const OFTEN: Duration = Duration::from_secs(5);
/// The watchdog is fed so many times before it bites.
const TIMES: u32 = 4;

/// The manager is waited for this long when it is asked something, and looked for so often…
const ANSWER: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);
/// …and no answer is longer, in bytes.
const LONGEST: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub struct Service {
    handed: Vec<(String, OwnedFd)>,
    said: String,
}

impl Service {
    /// Takes what the manager has handed over. To be called once, first of all.
    #[must_use]
    pub fn take() -> Self {
        Self { handed: crate::sys::inherit::descriptors(), said: String::new() }
    }

    /// Whether there is a manager that listens.
    #[must_use]
    pub fn is_managed() -> bool {
        std::env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// What was handed over under this name; the first, if there are several.
    pub fn handed(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.handed.iter().position(|(known, _)| known == name)?;
        Some(self.handed.swap_remove(at).1)
    }

    /// All that was handed over and not asked for.
    pub fn rest(&mut self) -> Vec<(String, OwnedFd)> {
        std::mem::take(&mut self.handed)
    }

    /// It is on guard: everything was compared with the baseline.
    pub fn ready(&mut self, status: &Status) {
        self.said = told(status);
        say(&[NotifyState::Ready, NotifyState::Status(&self.said)]);
    }

    /// How things are, for `systemctl status`; said when it changes.
    pub fn tell(&mut self, status: &Status) {
        let now = told(status);
        if self.said == now {
            return;
        }
        self.said = now;
        match status.state {
            State::Draining => say(&[NotifyState::Stopping, NotifyState::Status(&self.said)]),
            _ => say(&[NotifyState::Status(&self.said)]),
        }
    }
}

/// How the daemon is, in a line for `systemctl status`.
fn told(status: &Status) -> String {
    let Status { state, protected, open_incidents, .. } = status;
    let paths = if *protected == 1 { "path" } else { "paths" };
    match open_incidents {
        0 => format!("{state}: {protected} {paths} protected"),
        1 => format!("{state}: {protected} {paths} protected, one incident is open"),
        many => format!("{state}: {protected} {paths} protected, {many} incidents are open"),
    }
}

/// Has the manager keep `fd` under this name, for the next process of the service. It does not
/// look after it meanwhile: that would wake it with each event, and have it close a socket whose
/// queue ran over.
pub fn keep(name: &str, fd: BorrowedFd<'_>) {
    let all = [NotifyState::FdStore, NotifyState::FdName(name), NotifyState::Custom("FDPOLL=0")];
    if let Err(e) = sd_notify::notify_with_fds(&all, &[fd]) {
        tracing::debug!("the service manager does not listen: {e}");
    }
}

/// Has it keep what is under this name no longer.
pub fn let_go(name: &str) {
    say(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// Whether the manager has the service stop only to start it again. Where that cannot be found
/// out, it does not.
#[must_use]
pub fn starts_again() -> bool {
    let unit = crate::attribute::procfs::capture(std::process::id()).and_then(|us| us.unit);
    let jobs = unit.and_then(|unit| {
        let mut command = Command::new("systemctl");
        command.args(["list-jobs", "--no-legend", "--plain", "--full", "--no-pager", "--", &unit]);
        answer(command)
    });
    jobs.is_some_and(|jobs| jobs.lines().any(is_restart))
}

/// Number, unit, type and state of a job.
fn is_restart(job: &str) -> bool {
    job.split_ascii_whitespace().nth(2).is_some_and(|kind| kind.ends_with("restart"))
}

/// What a command has to say that does not take long.
fn answer(mut command: Command) -> Option<String> {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = quiet.spawn().ok()?;
    let deadline = Instant::now() + ANSWER;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(PAUSE);
    }
    let mut said = String::new();
    child.stdout.take()?.take(LONGEST).read_to_string(&mut said).ok()?;
    Some(said)
}

/// What cannot be said is not: the manager notices by itself that nothing is said.
fn say(all: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(all) {
        tracing::debug!("the service manager does not listen: {e}");
    }
}

/// The thread that feeds the watchdog.
#[derive(Debug)]
pub struct Feeder {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The start is over.
    ready: Arc<Mutex<bool>>,
}

impl Feeder {
    /// Feeds it from now on, and asks for more time until [`Feeder::ready`].
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(health: Arc<Health>) -> std::io::Result<Self> {
        let ready = Arc::new(Mutex::new(false));
        if !Service::is_managed() {
            return Ok(Self { stop: None, thread: None, ready });
        }
        let every = sd_notify::watchdog_enabled().map_or(OFTEN, |limit| (limit / TIMES).min(OFTEN));
        let (stop, stopped) = channel();
        let begun = Arc::clone(&ready);
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
            // Whoever watches the guard runs when the guard does.
            let _ = crate::sys::priority::run_at_once(1);
            loop {
                let ready = begun.lock().is_ok_and(|ready| *ready);
                match health.stalled() {
                    None if ready => say(&[NotifyState::Watchdog]),
                    None => {
                        let more = u32::try_from(MORE_TIME.as_micros()).unwrap_or(u32::MAX);
                        say(&[NotifyState::ExtendTimeoutUsec(more)]);
                    }
                    Some(why) => tracing::error!(
                        "{why}: the watchdog is not fed, so that the service manager starts anew"
                    ),
                }
                if stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), ready })
    }

    /// The start is over.
    pub fn ready(&self) {
        if let Ok(mut ready) = self.ready.lock() {
            *ready = true;
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_all_jobs_only_a_restart_starts_the_service_again() {
        for (job, restart) in [
            ("  123 steadfast.service restart running", true),
            ("7 steadfast.service try-restart waiting", true),
            ("7 steadfast.service stop  running", false),
            ("7 restart.service stop running", false),
            ("No jobs running.", false),
            ("", false),
        ] {
            assert_eq!(is_restart(job), restart, "{job}");
        }
    }

    #[test]
    fn nobody_is_waited_for_who_does_not_answer() {
        let mut echo = Command::new("echo");
        echo.arg("yes");
        assert_eq!(answer(echo).as_deref(), Some("yes\n"));
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        assert_eq!(answer(sleep), None);
        assert_eq!(answer(Command::new("/none")), None);
    }
}

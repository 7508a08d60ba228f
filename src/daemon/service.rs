//! What the daemon says to the service manager, and what it gets from it.
//!
//! The manager is systemd, over the socket that `NOTIFY_SOCKET` names; where there is none,
//! nothing is said. It is told when everything has been compared with the baseline and not
//! before, and its watchdog is fed only while every thread gets on with its work.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sd_notify::NotifyState;

use super::api::{State, Status};
use super::health::Health;

/// The start may take this much longer, said again and again while it gets on.
const MORE_TIME: Duration = Duration::from_secs(60);
/// How often that is said, and the watchdog fed where it leaves us longer.
const OFTEN: Duration = Duration::from_secs(5);
/// The watchdog is fed so many times before it bites.
const TIMES: u32 = 4;

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

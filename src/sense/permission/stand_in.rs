//! The stand-in: a second process that answers in the daemon's place while that stands still.
//!
//! The kernel has every opener of a protected file wait for an answer, and no thread of a process
//! that is stopped, frozen or held by a debugger can give one. So another process has the group
//! too. It glances at it now and then: where somebody waits and nothing has moved since the last
//! glance, it lets everybody through, unseen, until the daemon moves again. Nobody waits for
//! longer than two glances.
//!
//! Were it to outlive the daemon, openers would wait for nobody. It ends with the pipe that the
//! daemon holds, and the kernel kills it, also while it is stopped, when the daemon ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::desk::Desk;
use crate::sys::fanotify::{Gatekeeper, RequestId};
use crate::sys::priority::run_at_once;
use crate::sys::shared::Counters;

/// Counts what the daemon's threads did.
pub(super) const TURNS: usize = 0;
/// What they think about: the number of a [`RequestId`].
pub(super) const HELD: usize = 1;
/// Counts openers that the stand-in let through.
pub(super) const PASSED: usize = 2;

/// How often it glances: more than [`super::PATIENCE`], for within that the daemon helps itself.
const GLANCE: Duration = Duration::from_millis(400);
/// What it has let pass is told for so long.
const TOLD: Duration = Duration::from_secs(60);
/// Before the threads of the daemon: whoever waits has waited for long.
const BEFORE_ALL: i32 = 3;

/// The process, as the daemon has it. Dropping it ends the process.
#[derive(Debug, Default)]
pub(super) struct StandIn {
    child: Option<Child>,
    /// How many had passed when that was last more than before, and when that was.
    passed: Option<(u64, Instant)>,
    /// Why there is none.
    trouble: Option<String>,
}

impl StandIn {
    /// Starts it if it does not run. The thread that calls has to live as long as the daemon.
    pub(super) fn tend(&mut self, desk: &Desk) {
        let passed = desk.counters.get(PASSED);
        if passed > self.passed.map_or(0, |(before, _)| before) {
            self.passed = Some((passed, Instant::now()));
        }
        if !self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            let started = start(desk);
            self.trouble = started.as_ref().err().map(|e| {
                format!("while the daemon stands still, openers wait: no process for them: {e}")
            });
            self.child = started.ok();
        }
    }

    /// What is not as it should be.
    pub(super) fn trouble(&self) -> Option<String> {
        let lately = self.passed.filter(|(_, at)| at.elapsed() < TOLD);
        let stood = |(passed, _)| {
            format!("the daemon stood still; openers who passed unseen: {passed} so far")
        };
        lately.map(stood).or_else(|| self.trouble.clone())
    }
}

fn start(desk: &Desk) -> io::Result<Child> {
    let group = desk.gatekeeper.as_fd().try_clone_to_owned()?;
    let counters = desk.counters.as_fd().try_clone_to_owned()?;
    // What stands in for the standard streams is inherited by this process and no other.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("steadfast").arg("stand-in").env_clear().process_group(0);
    command.stdin(Stdio::piped()).stdout(group).stderr(counters).spawn()
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The stand-in's whole life: the group is its standard output, the numbers are its standard
/// error, and its standard input is the pipe.
///
/// # Errors
/// When it was not started by the daemon, or the system refuses what it needs.
pub fn stand_in() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let taken = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
    let (group, counters) = (taken(&io::stdout())?, taken(&io::stderr())?);
    let nowhere = File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&nowhere)?;
    nix::unistd::dup2_stderr(&nowhere)?;
    let counters = Counters::of(counters)?;
    // Refused, it waits a little longer for its turn.
    let _ = run_at_once(BEFORE_ALL);
    Post { gatekeeper: Gatekeeper::of(group), counters, lifeline: taken(&io::stdin())? }.keep()
}

struct Post {
    gatekeeper: Gatekeeper,
    counters: Counters,
    lifeline: OwnedFd,
}

impl Post {
    fn keep(&self) -> io::Result<()> {
        let mut before = None;
        // Nothing but its end comes through the pipe.
        while !self.is_readable(&self.lifeline, GLANCE)? {
            let turns = self.counters.get(TURNS);
            let waiting = self.counters.get(HELD) != 0
                || self.is_readable(&self.gatekeeper, Duration::ZERO)?;
            if waiting && before == Some(turns) {
                self.stand_in_while(turns)?;
            }
            before = waiting.then_some(turns);
        }
        Ok(())
    }

    /// Lets everybody through until the daemon has a turn.
    fn stand_in_while(&self, turns: u64) -> io::Result<()> {
        if let Some(held) = RequestId::of_number(self.counters.get(HELD)) {
            self.counters.add(PASSED);
            // The daemon may have answered just now.
            let _ = self.gatekeeper.allow(held);
        }
        while self.counters.get(TURNS) == turns {
            let mut both = [
                PollFd::new(&self.gatekeeper, PollFlags::IN),
                PollFd::new(&self.lifeline, PollFlags::IN),
            ];
            wait(&mut both, GLANCE)?;
            if both.last().is_some_and(|lifeline| !lifeline.revents().is_empty()) {
                return Ok(());
            }
            // A question that cannot be read was answered by the kernel.
            if let Ok(Some(request)) = self.gatekeeper.read() {
                self.counters.add(PASSED);
                drop(request);
            }
        }
        Ok(())
    }

    fn is_readable(&self, what: &impl AsFd, within: Duration) -> io::Result<bool> {
        wait(&mut [PollFd::new(what, PollFlags::IN)], within)
    }
}

fn wait(fds: &mut [PollFd<'_>], at_most: Duration) -> io::Result<bool> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(at_most.subsec_nanos()) };
    match poll(fds, Some(&timeout)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

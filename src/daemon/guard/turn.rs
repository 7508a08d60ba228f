//! One turn of the guard: it sleeps until something happens, hears what it is, and does what follows.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::time::TimeSpec;

use super::Guard;
use crate::engine::Input;
use crate::sense::Hint;

/// A turn in which nothing new is heard of ends after this long at the latest.
const LAST_TURN: Duration = Duration::from_millis(100);

/// What else than an observation ended the wait.
#[derive(Default)]
struct Woken {
    mounts_changed: bool,
    /// For a unit of our own: see [`Own`](crate::daemon::own::Own).
    bell_rang: bool,
}

impl Guard {
    /// Waits for something to happen, and does what follows from it.
    pub(super) fn turn(&mut self) -> std::io::Result<ControlFlow<()>> {
        self.health.guard.work();
        let woken = self.wait(true)?;
        self.listen(woken.mounts_changed);
        self.heed();
        if std::mem::take(&mut self.lost) {
            self.lost_events("the kernel dropped events");
        }
        let go_on = self.take_reports();
        self.answer_overdue();
        self.feed(Input::Tick);
        self.adopt_own();
        if woken.bell_rang {
            self.own_may_have_come();
        }
        self.look_on();
        self.sweep_some();
        self.test_some();
        self.publish_if_outdated();
        Ok(go_on)
    }

    /// A turn in which nothing new is heard of: only what was begun goes on.
    pub(super) fn last_turn(&mut self) -> std::io::Result<()> {
        self.health.guard.work();
        self.wait(false)?;
        self.heed();
        let _told_already = self.take_reports();
        self.answer_overdue();
        self.feed(Input::Tick);
        Ok(())
    }

    /// Acts on what was heard.
    fn heed(&mut self) {
        for observation in std::mem::take(&mut self.pending) {
            self.observe(observation);
        }
        let mut named = Vec::new();
        self.sensors.name(&mut named);
        for observation in named {
            match observation.hint {
                Hint::Child(_) => self.observe(observation),
                _ => self.feed(Input::Named(observation)),
            }
        }
    }

    /// Takes what the sensors have; it is acted on in its turn.
    pub(in crate::daemon) fn listen(&mut self, mounts_changed: bool) {
        self.lost |= self.sensors.read(Instant::now(), mounts_changed, &mut self.pending);
    }

    /// Sleeps until a worker or the clock has something, or a sensor that is to be `heard`.
    fn wait(&mut self, heard: bool) -> std::io::Result<Woken> {
        let now = self.began.elapsed();
        let due = self.engine.next_deadline().map(|at| at.saturating_sub(now));
        let asked = self.questions.due().map(|due| due.saturating_duration_since(Instant::now()));
        let sweep = || self.sweep.wait(now).min(self.canaries.wait(now)).min(self.life.wait());
        let (longest, slice) =
            if heard { (sweep(), self.lister.wait()) } else { (LAST_TURN, None) };
        let timeout = match (self.pending.is_empty(), self.queue.wait()) {
            (true, None) => [due, asked, slice].into_iter().flatten().fold(longest, Duration::min),
            (true, Some(rest)) => rest,
            (false, _) => Duration::ZERO,
        };
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(5);
        fds.push(PollFd::new(self.reports.fd(), PollFlags::POLLIN));
        if heard {
            let sensors = self.sensors.descriptors();
            fds.extend(sensors.into_iter().map(|(fd, flags)| PollFd::new(fd, flags)));
        }
        let bell = self.own.bell().filter(|_| heard);
        fds.extend(bell.map(|bell| PollFd::new(bell, PollFlags::POLLIN)));
        match nix::poll::ppoll(&mut fds, Some(TimeSpec::from(timeout)), None) {
            Ok(_) => {
                let said =
                    |flag| move |fd: &PollFd<'_>| fd.revents().is_some_and(|r| r.contains(flag));
                Ok(Woken {
                    mounts_changed: fds.iter().any(said(PollFlags::POLLPRI)),
                    bell_rang: bell.and(fds.last()).is_some_and(said(PollFlags::POLLIN)),
                })
            }
            Err(nix::errno::Errno::EINTR) => Ok(Woken::default()),
            Err(e) => Err(e.into()),
        }
    }
}

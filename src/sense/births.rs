//! Who starts whom: hears it of the kernel's process connector, and looks at each process that
//! begins to run something while it does so.
//!
//! It is no reason to look at any file, so it has no place among what `status` tells: where it is
//! refused, as in a container, or steps back because so many processes are made that it would take
//! a good part of a processor, whoever changes something is named as surely, and only parents that
//! have ended are not.
//!
//! Whatever can be read of a process only as slowly as that one likes keeps this thread waiting,
//! and nobody else; what is told meanwhile is heard by whoever asks.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::attribute::{Lineage, Pace};
use crate::sys::clock;
use crate::sys::connector::Connector;
use crate::sys::priority::interrupt_nobody;

/// It may have one processor for so much of the time…
const SHARE: u32 = 4;
/// …taken over this…
const WHILE: Duration = Duration::from_secs(1);
/// …and rests for this where it needs more.
const REST: Duration = Duration::from_secs(60);

/// The thread. Dropping it has it end, for which nobody waits.
pub struct BirthSensor {
    end: Arc<EventFd>,
}

impl BirthSensor {
    /// Begins to listen.
    ///
    /// # Errors
    /// Where the kernel tells nobody, or not us.
    pub fn start(lineage: Arc<Lineage>) -> io::Result<Self> {
        let connector = Connector::open()?;
        let end = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let ends = Arc::clone(&end);
        std::thread::Builder::new().name("births".to_owned()).spawn(move || {
            // Whoever starts a process is not to wait for this.
            let _ = interrupt_nobody();
            // A connection that is refused later on is one that is not there.
            let _ = listen(connector, &lineage, &ends);
            lineage.stop();
        })?;
        Ok(Self { end })
    }
}

impl Drop for BirthSensor {
    fn drop(&mut self) {
        // It cannot be full.
        let _ = self.end.write(1);
    }
}

fn listen(mut connector: Connector, lineage: &Lineage, end: &EventFd) -> io::Result<()> {
    loop {
        let socket = connector.as_fd().try_clone_to_owned()?;
        lineage.listen(connector);
        if !follow(&socket, lineage, end) {
            return Ok(());
        }
        lineage.stop();
        drop(socket);
        let rest = Timespec { tv_sec: REST.as_secs().cast_signed(), tv_nsec: 0 };
        let mut ends = [PollFd::new(end, PollFlags::IN)];
        let _ = poll(&mut ends, Some(&rest));
        if ends[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
        connector = Connector::open()?;
    }
}

/// Hears what is told. True where that takes too much, false at the end.
fn follow(socket: &OwnedFd, lineage: &Lineage, end: &EventFd) -> bool {
    let mut spent = Spent { since: Instant::now(), before: clock::of_thread() };
    loop {
        if spent.is_too_much(Instant::now(), clock::of_thread) {
            return true;
        }
        let pace = lineage.catch_up();
        lineage.look();
        match pace {
            Pace::UpToDate => {}
            Pace::Behind => continue,
            Pace::Deaf => return false,
        }
        let mut both = [PollFd::new(socket, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        // An interrupted wait is only short.
        let _ = poll(&mut both, None);
        if both[1].revents().contains(PollFlags::IN) {
            return false;
        }
    }
}

/// What the thread has had of the processors.
struct Spent {
    since: Instant,
    /// All that it had had by then.
    before: Duration,
}

impl Spent {
    /// Whether it took more than its share for [`WHILE`]. Then, or if not, it is counted anew.
    fn is_too_much(&mut self, now: Instant, has: impl Fn() -> Duration) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed < WHILE {
            return false;
        }
        let before = std::mem::replace(self, Self { since: now, before: has() }).before;
        self.before.saturating_sub(before) > passed / SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_more_than_a_quarter_of_a_processor_for_a_second_steps_back_and_nobody_else() {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let mut spent = Spent { since: began, before: ms(500) };
        let mut after =
            |passed: u64, has: u64| spent.is_too_much(began + ms(passed), || ms(500 + has));
        assert!(!after(999, 999), "it may have to catch up");
        assert!(!after(1000, 250));
        assert!(!after(2000, 500), "each second has its own");
        assert!(after(3000, 751));
        // The wait for what is told next may be long.
        assert!(!after(63_000, 15_000));
        assert!(!after(64_000, 15_250));
        assert!(after(65_000, 15_501));
    }
}

//! What the second process waits for: a signal, the end of the daemon, something new in the
//! spool, the end of a transmission, or simply the time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use inotify::{Inotify, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::supervisor::LIFELINE;

/// Where the kernel refuses a watch, the spool is looked at so often.
const WITHOUT_WATCH: Duration = Duration::from_secs(1);

/// Why waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// A signal, or the daemon that started this process is gone.
    End,
    /// What was waited for.
    Work,
    /// Nothing.
    Time,
}

/// Tells the waiting thread that a transmission has ended.
#[derive(Clone)]
pub(super) struct Bell(Arc<EventFd>);

impl Bell {
    pub(super) fn ring(&self) {
        // It fails only when it has been rung 2^64 times, and then it rings already.
        let _ = self.0.write(1);
    }
}

/// See the module.
pub(super) struct Waiting {
    signals: SignalFd,
    watch: Option<Inotify>,
    bell: Bell,
    has_lifeline: bool,
}

impl Waiting {
    /// Blocks SIGTERM and SIGINT for this thread and those it starts, and watches `items`.
    pub(super) fn new(items: &Path) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let watch = watch(items).inspect_err(|error| {
            tracing::warn!("cannot watch the mail spool, looking every second instead: {error}");
        });
        Ok(Self {
            signals: SignalFd::with_flags(&mask, flags)?,
            watch: watch.ok(),
            bell: Bell(Arc::new(bell)),
            has_lifeline: std::env::var_os(LIFELINE).is_some_and(|value| value == "stdin"),
        })
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Waits until something may be new in the spool, at most `time`.
    pub(super) fn for_work(&mut self, time: Duration) -> io::Result<Woken> {
        let time = if self.watch.is_some() { time } else { time.min(WITHOUT_WATCH) };
        let watched = self.watch.as_ref().map(AsFd::as_fd);
        let woken = self.wait(watched, true, time)?;
        if let (Woken::Work, Some(watch)) = (woken, &mut self.watch) {
            let mut buffer = [0; 4096];
            // Which names they were does not matter; an overflow does not either.
            match watch.read_events(&mut buffer) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(woken)
    }

    /// Waits until the bell rings, at most `time`; the end is noticed if `listen` is set.
    pub(super) fn for_bell(&mut self, time: Duration, listen: bool) -> io::Result<Woken> {
        let woken = self.wait(Some(self.bell.0.as_fd()), listen, time)?;
        if woken == Woken::Work {
            let _ = self.bell.0.read();
        }
        Ok(woken)
    }

    fn wait(
        &self,
        work: Option<BorrowedFd<'_>>,
        listen: bool,
        time: Duration,
    ) -> io::Result<Woken> {
        let stdin = io::stdin();
        let mut sources = Vec::new();
        if let Some(work) = work {
            sources.push(PollFd::new(work, PollFlags::POLLIN));
        }
        let enders = sources.len();
        if listen {
            sources.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
            if self.has_lifeline {
                // Nothing is ever written to it, so anything that happens is its end.
                sources.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
        }
        // A millisecond more than asked for: waking too early would only mean waiting again.
        let timeout = PollTimeout::try_from(time + Duration::from_millis(1));
        match poll(&mut sources, timeout.unwrap_or(PollTimeout::MAX)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened = |source: &PollFd| source.any().unwrap_or(true);
        let (work, end) = sources.split_at(enders);
        Ok(if end.iter().any(happened) {
            Woken::End
        } else if work.iter().any(happened) {
            Woken::Work
        } else {
            Woken::Time
        })
    }
}

fn watch(items: &Path) -> io::Result<Inotify> {
    let watch = Inotify::init()?;
    let mask = WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::CREATE
        | WatchMask::CLOSE_WRITE
        | WatchMask::DELETE;
    watch.watches().add(items, mask)?;
    Ok(watch)
}

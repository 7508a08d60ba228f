//! The threads of the permission group, and what they share. The story is told one level up.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::stand_in::{HELD, TURNS};
use super::{SPARE, TellHot};
use crate::attribute::{Captures, InodeKey};
use crate::sense::hot::Hot;
use crate::sys::fanotify::{Gatekeeper, Request, RequestId};
use crate::sys::priority::run_at_once;
use crate::sys::shared::Counters;

/// Among the threads that run at once.
const BEFORE_THE_GUARD: i32 = 2;

/// What the threads share.
pub(super) struct Desk {
    pub(super) gatekeeper: Gatekeeper,
    captures: Arc<Captures>,
    patience: Duration,
    bell: Arc<EventFd>,
    hot: Mutex<Hot>,
    tell: TellHot,
    /// The millisecond in which it rang last, since `began`.
    rang: AtomicU64,
    began: Instant,
    clock: OwnedFd,
    /// Readable for ever, once the sensor is dropped.
    closing: OwnedFd,
    shift: Mutex<Shift>,
    us: u32,
    /// For the stand-in: whether we get on.
    pub(super) counters: Counters,
}

#[derive(Debug, Default)]
pub(super) struct Shift {
    /// Which worker is on duty; one with another number has been relieved.
    on_duty: u32,
    /// What it thinks about.
    busy: Option<RequestId>,
    /// Workers that hang.
    pub(super) hanging: u32,
    pub(super) trouble: Option<String>,
}

impl Desk {
    pub(super) fn new(
        captures: Arc<Captures>,
        patience: Duration,
        bell: Arc<EventFd>,
        tell: TellHot,
    ) -> io::Result<Self> {
        Ok(Self {
            gatekeeper: Gatekeeper::new()?,
            captures,
            patience,
            bell,
            hot: Mutex::new(Hot::new(Instant::now())),
            tell,
            rang: AtomicU64::new(0),
            began: Instant::now(),
            clock: timerfd_create(
                TimerfdClockId::Monotonic,
                TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
            )?,
            closing: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            shift: Mutex::default(),
            us: std::process::id(),
            counters: Counters::new()?,
        })
    }

    pub(super) fn set_to_work(desk: &Arc<Self>, number: u32) -> io::Result<()> {
        let desk = Arc::clone(desk);
        let worker = std::thread::Builder::new().name("permission".to_owned());
        worker.spawn(move || desk.work(number)).map(drop)
    }

    fn work(&self, number: u32) {
        // An opener waits for us. Refused, it waits a little longer.
        let _ = run_at_once(BEFORE_THE_GUARD);
        while self.wait_for(self.gatekeeper.as_fd()) {
            self.counters.add(TURNS);
            match self.gatekeeper.read() {
                Ok(Some(request)) => {
                    if !self.serve(number, request) {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => {
                    let trouble =
                        format!("a question was lost: {error}; is RLIMIT_NOFILE too low?");
                    self.shift().trouble = Some(trouble);
                }
            }
        }
    }

    /// False when the relief has taken over.
    fn serve(&self, number: u32, request: Request<'_>) -> bool {
        if request.pid() == self.us || !self.begin(number, &request) {
            drop(request);
            return self.shift().on_duty == number;
        }
        self.ring();
        let looked = catch_unwind(AssertUnwindSafe(|| self.look(number, &request)));
        let mut shift = self.shift();
        if shift.on_duty != number {
            shift.hanging = shift.hanging.saturating_sub(1);
            request.was_answered();
            return false;
        }
        shift.busy = None;
        self.counters.set(HELD, 0);
        if looked.is_err() {
            shift.trouble = Some("a process could not be looked at: a fault of ours".to_owned());
        }
        drop(shift);
        self.wind(Duration::ZERO);
        drop(request);
        true
    }

    fn ring(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        // A file that is opened all the time keeps the other thread awake by itself.
        if self.rang.swap(now, Ordering::Relaxed) != now {
            // Only a counter at its limit refuses, and then the bell has rung already.
            let _ = self.bell.write(1);
        }
    }

    /// Winds the clock; false where the request is better let through unseen.
    fn begin(&self, number: u32, request: &Request<'_>) -> bool {
        let mut shift = self.shift();
        if shift.on_duty != number || shift.hanging >= SPARE {
            return false;
        }
        shift.busy = Some(request.id());
        self.counters.set(HELD, request.id().to_number());
        self.wind(self.patience);
        true
    }

    fn look(&self, number: u32, request: &Request<'_>) {
        if let Ok(stat) = crate::sys::stat::stat_fd(request.file()) {
            let (inode, now) = (InodeKey::of(&stat), Instant::now());
            let at = || match self.shift().on_duty == number {
                true => Instant::now(),
                // The relief let it go on some time ago.
                false => now,
            };
            self.captures.opening(request.pid(), request.pidfd(), (inode, stat.ctime), at);
            let hot = |hot: &mut Hot| hot.opened(inode, now);
            if self.hot.lock().is_ok_and(|mut counts| hot(&mut counts)) {
                (self.tell)(inode);
            }
        }
    }

    pub(super) fn relieve(desk: &Arc<Self>) {
        while desk.wait_for(desk.clock.as_fd()) {
            let mut shift = desk.shift();
            let mut ticks = [0; 8];
            // Nothing to read: the worker finished just now and stopped the clock.
            if rustix::io::read(&desk.clock, &mut ticks).is_err() {
                continue;
            }
            let Some(request) = shift.busy.take() else { continue };
            // The worker that holds the request needs this lock before it lets go of it.
            let _ = desk.gatekeeper.allow(request);
            desk.counters.set(HELD, 0);
            desk.counters.add(TURNS);
            shift.on_duty = shift.on_duty.wrapping_add(1);
            shift.hanging += 1;
            let number = shift.on_duty;
            drop(shift);
            if Self::set_to_work(desk, number).is_err() {
                desk.shift().trouble = Some("no thread could be started; openers pass".to_owned());
                desk.let_everybody_through();
                return;
            }
        }
        desk.let_everybody_through();
    }

    fn let_everybody_through(&self) {
        let _ = self.gatekeeper.unmark_all();
        if let Some(request) = self.shift().busy.take() {
            let _ = self.gatekeeper.allow(request);
        }
        while let Ok(Some(request)) = self.gatekeeper.read() {
            drop(request);
        }
    }

    /// Waits until `what` is readable; false once the sensor closes.
    fn wait_for(&self, what: BorrowedFd<'_>) -> bool {
        loop {
            let mut both = [
                PollFd::from_borrowed_fd(what, PollFlags::IN),
                PollFd::new(&self.closing, PollFlags::IN),
            ];
            match poll(&mut both, None) {
                Ok(_) => return both.last().is_some_and(|closing| closing.revents().is_empty()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    pub(super) fn close(&self) {
        let _ = rustix::io::write(&self.closing, &1_u64.to_ne_bytes());
    }

    /// The clock runs out after `time`; zero stops it.
    fn wind(&self, time: Duration) {
        let timespec = |time: Duration| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(time) };
        let _ = timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &once);
    }

    pub(super) fn shift(&self) -> MutexGuard<'_, Shift> {
        self.shift.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

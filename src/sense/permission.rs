//! The permission thread: it sees who opens a protected file while the opener waits.
//!
//! A plain event comes after the fact, and a short-lived process is gone by then. A permission
//! event holds the process in `open` until it is answered, so `/proc` still has it.
//!
//! Every open of every protected file passes through here, so the thread does nothing else. It
//! opens nothing outside `/proc`, logs nothing, takes no lock that anybody holds over I/O, and
//! answers yes whatever happens: a request that is dropped is answered by that alone.
//!
//! Reading `/proc/PID/cmdline` can wait for a lock in the kernel that the opener itself holds
//! and need not give back. So there is a relief: a second thread that watches a clock, which
//! the first winds before it looks at a process and stops afterwards. When it runs out, the
//! relief answers in the first one's place and sets another to work; the one that hangs ends
//! when it wakes. A tamperer gains a delay of [`PATIENCE`] an open by it, and after
//! [`SPARE`] times not even that: processes are then let through unseen, and `status` says so.
//!
//! An inode that is opened thousands of times a second is told of, once: whoever hears of it
//! may have it left alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::Timespec;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::hot::Hot;
use super::{Health, SenseError};
use crate::attribute::{Captures, InodeKey};
use crate::sys::fanotify::{Gatekeeper, Request, RequestId};
use crate::sys::open::open_path_at;
use crate::sys::priority::run_at_once;

/// How long one process may be looked at. The usual is a tenth of a millisecond.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// Threads that may hang at the same time.
pub const SPARE: u32 = 16;

const WHAT: &str = "the fanotify permission group";
/// Among the threads that run at once.
const BEFORE_THE_GUARD: i32 = 2;

/// Is told which inode is opened all the time.
pub type TellHot = Box<dyn Fn(InodeKey) + Send + Sync>;

/// The group and its threads. Dropping it lets everybody through and ends them.
pub struct PermissionSensor {
    desk: Arc<Desk>,
    relief: Option<JoinHandle<()>>,
}

/// What the threads share.
struct Desk {
    gatekeeper: Gatekeeper,
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
}

#[derive(Debug, Default)]
struct Shift {
    /// Which worker is on duty; one with another number has been relieved.
    on_duty: u32,
    /// What it thinks about.
    busy: Option<RequestId>,
    /// Workers that hang.
    hanging: u32,
    trouble: Option<String>,
}

impl PermissionSensor {
    /// Starts the threads. Nothing is asked about yet.
    ///
    /// `bell` rings before an opener is looked at, at most once a millisecond: waking a thread
    /// takes an idle processor longer than healing a file takes, and who is awake by the time
    /// the opener does its harm comes sooner.
    ///
    /// # Errors
    /// Where the kernel refuses the group, or a thread.
    pub fn start(
        captures: Arc<Captures>,
        bell: Arc<EventFd>,
        tell: TellHot,
    ) -> Result<Self, SenseError> {
        Self::with_patience(captures, PATIENCE, bell, tell)
    }

    fn with_patience(
        captures: Arc<Captures>,
        patience: Duration,
        bell: Arc<EventFd>,
        tell: TellHot,
    ) -> Result<Self, SenseError> {
        let refused = |source| SenseError::Refused {
            what: WHAT,
            remedy: "it needs CAP_SYS_ADMIN and a kernel with fanotify permission events; \
                     short-lived processes will not be named",
            source,
        };
        let desk = Arc::new(Desk::new(captures, patience, bell, tell).map_err(refused)?);
        let relieving = Arc::clone(&desk);
        Desk::set_to_work(&desk, 0).map_err(refused)?;
        let relief = std::thread::Builder::new()
            .name("relief".to_owned())
            .spawn(move || Desk::relieve(&relieving));
        match relief {
            Ok(relief) => Ok(Self { desk, relief: Some(relief) }),
            Err(error) => {
                desk.close();
                Err(refused(error))
            }
        }
    }

    /// Asks about opens of what `name` in `dir` is now. A symlink is marked itself.
    ///
    /// # Errors
    /// Where it cannot be marked.
    pub fn watch(&self, dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<(), SenseError> {
        let marked = open_path_at(dir, name).and_then(|fd| self.desk.gatekeeper.mark(fd.as_fd()));
        marked.map_err(|source| SenseError::watch(WHAT, name.as_ref(), source))
    }

    /// Asks no longer about what `name` in `dir` is now.
    ///
    /// # Errors
    /// Where it is not there, or was not watched.
    pub fn unwatch(&self, dir: BorrowedFd<'_>, name: &std::ffi::OsStr) -> Result<(), SenseError> {
        let done = open_path_at(dir, name).and_then(|fd| self.desk.gatekeeper.unmark(fd.as_fd()));
        done.map_err(|source| SenseError::watch(WHAT, name.as_ref(), source))
    }

    /// How it does.
    #[must_use]
    pub fn health(&self) -> Health {
        let shift = self.desk.shift();
        if shift.hanging >= SPARE {
            let why = "too many processes could not be looked at in time; openers pass unseen";
            return Health::Degraded(why.to_owned());
        }
        shift.trouble.clone().map_or(Health::Working, Health::Degraded)
    }
}

impl Drop for PermissionSensor {
    fn drop(&mut self) {
        self.desk.close();
        if let Some(relief) = self.relief.take() {
            // It never hangs: it looks at no process.
            let _ = relief.join();
        }
    }
}

impl Desk {
    fn new(
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
        })
    }

    fn set_to_work(desk: &Arc<Self>, number: u32) -> io::Result<()> {
        let desk = Arc::clone(desk);
        let worker = std::thread::Builder::new().name("permission".to_owned());
        worker.spawn(move || desk.work(number)).map(drop)
    }

    fn work(&self, number: u32) {
        // An opener waits for us. Refused, it waits a little longer.
        let _ = run_at_once(BEFORE_THE_GUARD);
        while self.wait_for(self.gatekeeper.as_fd()) {
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
        let looked = catch_unwind(AssertUnwindSafe(|| self.look(&request)));
        let mut shift = self.shift();
        if shift.on_duty != number {
            shift.hanging = shift.hanging.saturating_sub(1);
            request.was_answered();
            return false;
        }
        shift.busy = None;
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
        self.wind(self.patience);
        true
    }

    fn look(&self, request: &Request<'_>) {
        if let Ok(stat) = crate::sys::stat::stat_fd(request.file()) {
            let (inode, now) = (InodeKey { dev: stat.dev, ino: stat.ino }, Instant::now());
            self.captures.opening(request.pid(), request.pidfd(), (inode, stat.ctime), now);
            let hot = |hot: &mut Hot| hot.opened(inode, now);
            if self.hot.lock().is_ok_and(|mut counts| hot(&mut counts)) {
                (self.tell)(inode);
            }
        }
    }

    fn relieve(desk: &Arc<Self>) {
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

    fn close(&self) {
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

    fn shift(&self) -> MutexGuard<'_, Shift> {
        self.shift.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

#[cfg(test)]
mod tests;

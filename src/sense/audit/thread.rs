//! The thread that listens.

mod hear;
mod orders;
mod past;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::call::{Assembler, Call, Heard};
use super::setup::Setup;
use super::{FIRST, Order, Shared, Told};
use crate::attribute::{Actor, Captures, Doer, Shelf, Touched, fastest_round};
use crate::sense::Health;
use crate::sys::audit::{Received, Stream, signal};
use crate::sys::priority::{interrupt_nobody, take_share};

/// Records read before orders and deadlines have their turn.
const AT_ONCE: usize = 256;
/// After more than that, it takes a larger share of the processor until there are fewer for so
/// long: those who make its work cannot keep it from doing it.
const PRESSED: Duration = Duration::from_secs(1);
/// Looking everywhere costs about a microsecond a file: not more often than this.
const EVERYWHERE: Duration = Duration::from_millis(100);

/// See the module.
pub(super) struct Listener {
    shared: Arc<Shared>,
    captures: Arc<Captures>,
    tell: Box<dyn Fn(Told) + Send>,
    setup: Setup,
    stream: Stream,
    /// Those of earlier runs, with what waits in them…
    past: Vec<Stream>,
    /// …and what came in before all files were known, where there are such.
    early: Option<BTreeMap<u64, Box<Call>>>,
    /// Our rules are to stay when we go.
    leaves: bool,
    assembler: Assembler,
    us: u32,
    /// Our own calls whose records have not come yet: number, question, deadline.
    asked: Vec<(u32, Option<u64>, Instant)>,
    /// Questions whose record has come: question, serial number, deadline.
    caught: Vec<(u64, u64, Instant)>,
    last_signal: u32,
    last_lost: u32,
    lost: Option<(Instant, &'static str)>,
    last_actor: Option<(Doer, Arc<Actor>)>,
    /// Who last put something into which directory, and when that was noted.
    filling: Option<(Arc<Actor>, Vec<Touched>, Instant)>,
    /// What processes had opened that changed flags.
    opened: Shelf,
    /// For so long a pid is nobody else's.
    round: Duration,
    /// When strangers were looked at.
    strangers: VecDeque<Instant>,
    everywhere: Option<Instant>,
    pending_everywhere: bool,
    next_check: Instant,
    /// When it last did not get to the end of what had come in.
    pressed: Option<Instant>,
    trouble: Option<String>,
    /// A call of ours was recorded.
    proven: bool,
    /// Such calls have to be made by a thread that was made for it.
    by_another: bool,
}

impl Listener {
    /// And its stream once more.
    pub(super) fn set_up(
        shared: Arc<Shared>,
        captures: Arc<Captures>,
        past: Vec<Stream>,
        tell: Box<dyn Fn(Told) + Send>,
    ) -> Result<(Self, OwnedFd), String> {
        // The stream first: it is what most often is refused, and then nothing was changed.
        let refused = |e| super::setup::Refused::Kernel(e).to_string();
        let stream = Stream::open().map_err(refused)?;
        let twin = stream.as_fd().try_clone_to_owned().map_err(refused)?;
        let mut setup = Setup::begin(&shared.anchor).map_err(|e| e.to_string())?;
        let status = match setup.status() {
            Ok(status) => status,
            Err(error) => {
                setup.take_down();
                return Err(refused(error));
            }
        };
        let since_boot = std::fs::read_to_string("/proc/cmdline")
            .is_ok_and(|line| line.split_ascii_whitespace().any(|word| word == "audit=1"));
        if !since_boot {
            shared.distrust_whoever_lives();
        }
        let listener = Self {
            shared,
            captures,
            tell,
            setup,
            stream,
            early: (!past.is_empty()).then(BTreeMap::new),
            past,
            leaves: false,
            assembler: Assembler::default(),
            us: std::process::id(),
            asked: Vec::new(),
            caught: Vec::new(),
            last_signal: 0,
            last_lost: status.lost,
            lost: None,
            last_actor: None,
            filling: None,
            opened: Shelf::default(),
            round: fastest_round(),
            strangers: VecDeque::new(),
            everywhere: None,
            pending_everywhere: false,
            next_check: Instant::now(),
            pressed: None,
            trouble: None,
            proven: false,
            by_another: false,
        };
        Ok((listener, twin))
    }

    /// Listens until told to stop, and says when the first record has come, or is overdue.
    pub(super) fn listen(mut self, orders: &Receiver<Order>, ready: &Sender<()>) {
        // Records come while whoever is recorded still runs, and while a file is being healed:
        // neither is to be kept from its processor by the reading of them.
        let _ = interrupt_nobody();
        if self.prove().is_ok() {
            self.publish();
            // Whoever waits may have given up.
            let _ = ready.send(());
            self.go_round(orders);
        }
        if !self.leaves {
            self.setup.take_down();
        }
    }

    fn go_round(&mut self, orders: &Receiver<Order>) {
        loop {
            self.shared.state().busy = false;
            self.wait();
            {
                let mut state = self.shared.state();
                (state.busy, state.alive) = (true, Instant::now());
            }
            // Before the records: what was done to an inode must find it known.
            if !self.obey(orders) {
                return;
            }
            if let Err(error) = self.read() {
                return self.is_broken(&error);
            }
            self.answer();
            self.check();
            self.publish();
        }
    }

    /// Makes a call that is recorded, and waits a while for the record.
    fn prove(&mut self) -> std::io::Result<()> {
        self.trouble = self.setup.renew().err();
        if self.trouble.is_none() {
            self.signal(None, FIRST);
        }
        while !self.asked.is_empty() {
            self.wait();
            self.read().inspect_err(|error| self.is_broken(error))?;
            let now = Instant::now();
            self.asked.retain(|(.., deadline)| now < *deadline);
        }
        // A thread that was made while nobody new was recorded never is.
        self.by_another = !self.proven;
        Ok(())
    }

    fn is_broken(&self, error: &std::io::Error) {
        let why = format!("audit records cannot be read: {error}");
        self.shared.state().health = Health::Degraded(why);
    }

    fn wait(&self) {
        let now = Instant::now();
        let mut due = self.next_check.saturating_duration_since(now);
        let caught = self.caught.iter().map(|(.., deadline)| deadline);
        for deadline in self.asked.iter().map(|(.., deadline)| deadline).chain(caught) {
            due = due.min(deadline.saturating_duration_since(now));
        }
        if self.pending_everywhere {
            due = due.min(EVERYWHERE);
        }
        let due = Timespec {
            tv_sec: i64::try_from(due.as_secs()).unwrap_or(1),
            tv_nsec: due.subsec_nanos().into(),
        };
        let mut both = [
            PollFd::new(&self.stream, PollFlags::IN),
            PollFd::new(&self.shared.bell, PollFlags::IN),
        ];
        // An interrupted wait is only short.
        let _ = poll(&mut both, Some(&due));
    }

    fn signal(&mut self, question: Option<u64>, patience: Duration) {
        self.last_signal = self.last_signal.wrapping_add(1);
        self.asked.push((self.last_signal, question, Instant::now() + patience));
        let (bell, number) = (self.shared.bell.as_fd(), self.last_signal);
        if self.by_another {
            // Refused a thread, it is as if no record came.
            let signal = || signal(bell, number);
            std::thread::scope(|scope| {
                let _ = std::thread::Builder::new().spawn_scoped(scope, signal);
            });
        } else {
            signal(bell, number);
        }
    }

    fn read(&mut self) -> std::io::Result<()> {
        for _ in 0..AT_ONCE {
            let now = Instant::now();
            let heard = match self.stream.receive()? {
                Received::Nothing => {
                    self.relax(now);
                    return Ok(());
                }
                Received::Lost => {
                    self.lose_records(now, upkeep::TOO_MANY);
                    None
                }
                Received::Record(record) => self.assembler.take(record.kind, record.text, now),
            };
            match heard {
                Some(Heard::Call(call)) => self.hear_in_turn(call, now),
                Some(Heard::Configuration(change)) => self.reconfigured(change, now),
                None => {}
            }
        }
        if self.pressed.replace(Instant::now()).is_none() {
            // Refused, it may lose records, and then says so.
            let _ = take_share(true);
        }
        Ok(())
    }

    fn relax(&mut self, now: Instant) {
        let over = |at: &mut Instant| now.saturating_duration_since(*at) > PRESSED;
        if self.pressed.take_if(over).is_some() {
            let _ = take_share(false);
        }
    }

    fn caught_up(&mut self, number: u64, serial: u64) {
        let Some(at) = self.asked.iter().position(|(asked, ..)| u64::from(*asked) == number) else {
            return;
        };
        let (_, question, deadline) = self.asked.remove(at);
        if question.is_none() {
            // The first call of ours, made once we listened.
            self.assembler.begins_at(serial);
            self.begin();
        }
        self.caught.extend(question.map(|question| (question, serial, deadline)));
    }

    /// Answers those for whom everything has come in, or too late.
    fn answer(&mut self) {
        let now = Instant::now();
        let whole = |serial: u64| self.assembler.is_whole_to(serial);
        let ready: Vec<_> = self
            .caught
            .extract_if(.., |(_, serial, deadline)| whole(*serial) || now >= *deadline)
            .map(|(question, serial, _)| (question, whole(serial)))
            .collect();
        if !ready.is_empty() {
            self.count_losses();
        }
        let late = self.asked.extract_if(.., |(.., deadline)| now >= *deadline);
        let late = late.filter_map(|(_, question, _)| Some((question?, false)));
        for (question, complete) in ready.into_iter().chain(late) {
            let complete = complete && self.trouble.is_none() && self.proven;
            (self.tell)(Told::Caught { question, complete });
        }
        let may = self.everywhere.is_none_or(|at| now.saturating_duration_since(at) >= EVERYWHERE);
        if self.pending_everywhere && may {
            self.pending_everywhere = false;
            self.everywhere = Some(now);
            (self.tell)(Told::LookEverywhere);
        }
    }
}

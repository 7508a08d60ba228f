//! The thread that listens.

mod orders;
mod upkeep;

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::act::{acts, doer};
use super::call::{Assembler, Call, Heard, Name};
use super::setup::Setup;
use super::{FIRST, Order, Shared, Told};
use crate::attribute::{Act, Actor, Captures, Deed, Doer, InodeKey, Touched, fastest_round};
use crate::judge::FileTime;
use crate::sense::FileId;
use crate::sys::audit::{Received, SIGNAL, Stream, signal};
use crate::sys::clock;
use crate::sys::priority::interrupt_nobody;

/// Records read before orders and deadlines have their turn.
const AT_ONCE: usize = 256;
/// Looking everywhere costs about a microsecond a file: not more often than this.
const EVERYWHERE: Duration = Duration::from_millis(100);
const A_SECOND: Duration = Duration::from_secs(1);
/// So many processes that changed flags of files which may not be ours are looked at a second.
const MOST_STRANGERS: usize = 50;

/// See the module.
pub(super) struct Listener {
    shared: Arc<Shared>,
    captures: Arc<Captures>,
    tell: Box<dyn Fn(Told) + Send>,
    setup: Setup,
    stream: Stream,
    assembler: Assembler,
    us: u32,
    first_recorded: u64,
    /// Our own calls whose records have not come yet: number, question, deadline.
    asked: Vec<(u32, Option<u64>, Instant)>,
    /// Questions whose record has come: question, serial number, deadline.
    caught: Vec<(u64, u64, Instant)>,
    last_signal: u32,
    last_lost: u32,
    lost: Option<(Instant, &'static str)>,
    last_actor: Option<(Doer, Arc<Actor>)>,
    /// For so long a pid is nobody else's.
    round: Duration,
    /// When strangers were looked at.
    strangers: VecDeque<Instant>,
    everywhere: Option<Instant>,
    pending_everywhere: bool,
    next_check: Instant,
    trouble: Option<String>,
}

impl Listener {
    pub(super) fn set_up(
        shared: Arc<Shared>,
        captures: Arc<Captures>,
        tell: Box<dyn Fn(Told) + Send>,
    ) -> Result<Self, String> {
        // The stream first: it is what most often is refused, and then nothing was changed.
        let refused = |e| super::setup::Refused::Kernel(e).to_string();
        let stream = Stream::open().map_err(refused)?;
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
        let now = clock::ticks_of_wall(clock::wall()).unwrap_or(u64::MAX);
        Ok(Self {
            shared,
            captures,
            tell,
            setup,
            stream,
            assembler: Assembler::default(),
            us: std::process::id(),
            first_recorded: if since_boot { 0 } else { now },
            asked: Vec::new(),
            caught: Vec::new(),
            last_signal: 0,
            last_lost: status.lost,
            lost: None,
            last_actor: None,
            round: fastest_round(),
            strangers: VecDeque::new(),
            everywhere: None,
            pending_everywhere: false,
            next_check: Instant::now(),
            trouble: None,
        })
    }

    pub(super) fn first_recorded(&self) -> u64 {
        self.first_recorded
    }

    /// Listens until told to stop, and says once whether the first record came.
    pub(super) fn listen(mut self, orders: &Receiver<Order>, ready: &Sender<Result<(), String>>) {
        // Records come while whoever is recorded still runs, and while a file is being healed:
        // neither is to be kept from its processor by the reading of them.
        let _ = interrupt_nobody();
        let first = self.prove();
        let begun = first.is_ok();
        let _ = ready.send(first);
        if begun {
            self.go_round(orders);
        }
        self.setup.take_down();
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
                self.trouble = Some(format!("audit records cannot be read: {error}"));
                self.publish();
                return;
            }
            self.answer();
            self.check();
            self.publish();
        }
    }

    /// Makes a call that is recorded, and waits for the record.
    fn prove(&mut self) -> Result<(), String> {
        self.setup.renew()?;
        self.signal(None, FIRST);
        while !self.asked.is_empty() {
            self.wait();
            self.read().map_err(|e| format!("audit records cannot be read: {e}"))?;
            let now = Instant::now();
            if self.asked.iter().any(|(.., deadline)| now >= *deadline) {
                return Err("no audit record comes, though the kernel took our rules; see \
                            auditctl -l for rules of somebody else"
                    .to_owned());
            }
        }
        Ok(())
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
        signal(self.shared.bell.as_fd(), self.last_signal);
    }

    fn read(&mut self) -> std::io::Result<()> {
        for _ in 0..AT_ONCE {
            let now = Instant::now();
            let heard = match self.stream.receive()? {
                Received::Nothing => return Ok(()),
                Received::Lost => {
                    self.lose_records(now, "too many waited to be read");
                    None
                }
                Received::Record(record) => self.assembler.take(record.kind, record.text, now),
            };
            match heard {
                Some(Heard::Call(call)) => self.hear(&call, now),
                Some(Heard::Configuration) => {
                    self.next_check = self.next_check.min(now + EVERYWHERE);
                }
                None => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self, call: &Call, now: Instant) {
        if call.pid == self.us {
            let is_signal = call.arguments[1] == u64::from(SIGNAL);
            let number = call.arguments[2];
            if is_signal {
                self.caught_up(number, call.serial);
            }
            return;
        }
        let acts = acts(call);
        if acts.is_empty() {
            return;
        }
        let found = self.concerning_us(call, acts);
        if found.is_empty() {
            return;
        }
        let actor = self.actor(call, found.iter().any(|(.., told)| *told));
        let mut looks = Vec::new();
        for (act, of, told) in found {
            let (of, inherited) = match told {
                true => (of, Vec::new()),
                false => self.opened_by(&actor, call.time),
            };
            match told {
                true if act == Act::OpenedForWriting => {}
                true => looks.extend(of.iter().map(|touched| touched.file)),
                false => self.look_where_opened(&of, &inherited, &mut looks),
            }
            let (actor, began, ended) = (Arc::clone(&actor), call.time, clock::wall());
            let deed = Deed { act, told, of, inherited, actor, began, over: now, ended };
            self.shared.deeds.add(deed);
        }
        self.call_for(looks);
    }

    /// Has these files looked at.
    fn call_for(&self, looks: Vec<FileId>) {
        let is_news = {
            let waiting = &mut self.shared.state().looks;
            let all_taken = waiting.is_empty();
            waiting.extend(looks);
            all_taken && !waiting.is_empty()
        };
        if is_news {
            (self.tell)(Told::Look);
        }
    }

    /// Those of the acts that were, or may have been, done to files of ours: to which, and
    /// whether the call itself tells that.
    fn concerning_us(
        &self,
        call: &Call,
        acts: Vec<(Act, Option<&Name>)>,
    ) -> Vec<(Act, Vec<Touched>, bool)> {
        let mut state = self.shared.state();
        let mut found = Vec::new();
        let mut removed = None;
        for (act, name) in acts {
            let Some(name) = name else {
                found.push((act, Vec::new(), false));
                continue;
            };
            let of_name = matches!(act, Act::Removed | Act::Moved | Act::Replaced);
            let inode = name.inode.as_ref();
            let mut of =
                inode.map(|inode| state.inodes.called(inode, call.time)).unwrap_or_default();
            of.retain(|touched| {
                !of_name || state.inodes.is_called(touched.file, name.name.as_deref())
            });
            if !of.is_empty() {
                if matches!(act, Act::Removed | Act::Replaced) {
                    removed = name.inode;
                }
                found.push((act, of, true));
            }
        }
        if let Some(number) = removed {
            state.inodes.removed(&number, call.time);
        }
        found
    }

    /// Which of our files this process had opened when its call began, and which its parents.
    fn opened_by(&self, actor: &Actor, began: FileTime) -> (Vec<Touched>, Vec<Touched>) {
        let (own, above) = self.captures.opened_by(actor, began);
        let state = self.shared.state();
        let touched = |opens: Vec<(InodeKey, Instant)>| -> Vec<Touched> {
            let opens = opens.into_iter();
            opens.flat_map(|(key, at)| state.inodes.opened(key, at)).collect()
        };
        (touched(own), touched(above))
    }

    /// Flags were changed through a descriptor: of which file, only who opened it tells.
    fn look_where_opened(
        &mut self,
        opened: &[Touched],
        inherited: &[Touched],
        looks: &mut Vec<FileId>,
    ) {
        let before = looks.len();
        looks.extend(opened.iter().chain(inherited).map(|touched| touched.file));
        self.pending_everywhere |= looks.len() == before;
    }

    /// The process. One that opened nothing, and whose call tells no file of ours, is most
    /// likely busy with files of its own: looking at it takes longer than it lives.
    fn actor(&mut self, call: &Call, ours: bool) -> Arc<Actor> {
        let doer = doer(call);
        if let Some((last, actor)) = &self.last_actor
            && last.pid == doer.pid
            && last.exe == doer.exe
            && clock::between(last.began, doer.began) < self.round
            && (!ours || actor.start_time != 0)
        {
            return Arc::clone(actor);
        }
        let actor = match self.captures.of_record(&doer) {
            Some(actor) => actor,
            None if ours || !self.is_noisy() => self.captures.by_record(&doer),
            None => Arc::new(doer.brief()),
        };
        self.last_actor = Some((doer, Arc::clone(&actor)));
        actor
    }

    /// Whether so many strangers change flags that there is no time to look at each.
    fn is_noisy(&mut self) -> bool {
        let now = Instant::now();
        self.strangers.retain(|at| now.saturating_duration_since(*at) < A_SECOND);
        self.strangers.push_back(now);
        if self.strangers.len() <= MOST_STRANGERS {
            return false;
        }
        self.strangers.pop_front();
        true
    }

    fn caught_up(&mut self, number: u64, serial: u64) {
        let Some(at) = self.asked.iter().position(|(asked, ..)| u64::from(*asked) == number) else {
            return;
        };
        let (_, question, deadline) = self.asked.remove(at);
        if question.is_none() {
            // The first call of ours, made once we listened.
            self.assembler.begins_at(serial);
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
            let complete = complete && self.trouble.is_none();
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

//! The keeper: sees to it that the daemon's own files are where they belong and as it left them.
//!
//! Whoever tampers with what is protected does well to begin with the watchdog's memory. So
//! every few seconds, on the thread that writes, every directory of the state is held against
//! the descriptor that was opened at the start: what was moved away is put back, what was
//! removed is made anew and filled with what is still open or still in memory. It is told once,
//! loudly, and `status` says so for a while longer: a person has to find out who did it. What a
//! removed file held and nobody has open, older parts of the journal above all, is lost; `journal
//! verify` tells which lines, and `status` says so until the daemon is started again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::worries::{Worries, Worry};
use crate::alert::Spool;
use crate::baseline::{Baseline, Evidence, Record, Vault};
use crate::daemon::failures::Failure;
use crate::daemon::store::held::{Fate, Held, identity_at, set_aside};
use crate::daemon::store::lock::StateLock;
use crate::daemon::wake::Mailer;
use crate::daemon::workers::Report;
use crate::judge::FileTime;
use crate::record::{Event, Journal, Kind, Severity, Trouble};
use crate::text::escape_path;

/// See the module.
pub struct Keeper {
    state: PathBuf,
    lock: StateLock,
    /// The state itself first, then what is in it.
    held: Vec<(Part, Held)>,
    /// Whoever has them open is still to go on with the new ones.
    outdated: Vec<Part>,
    baseline: Option<(u64, u64)>,
    /// All that is protected, since the database is not to be believed.
    records: Option<Vec<Record>>,
    asked: bool,
    rewritten: bool,
    vault: Arc<Vault>,
    /// What the vault's directory said when the copies in it were last counted.
    counted: Option<FileTime>,
    reports: Mailer<Report>,
    pub(super) worries: Worries,
    /// What went wrong at the last look, once said.
    failure: Option<String>,
    /// What was said last of the journal, and nobody's doing.
    trouble: Option<String>,
}

/// A directory of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    State,
    Journal,
    Vault,
    Quarantine,
    Spool,
    Replicas,
}

impl Part {
    const BELOW: [(Self, &str, u32); 5] = [
        (Self::Journal, "journal", 0o700),
        (Self::Vault, "vault", 0o700),
        (Self::Quarantine, "quarantine", 0o700),
        (Self::Spool, "spool", 0o755),
        (Self::Replicas, "replicas", 0o700),
    ];

    /// What is lost with it.
    fn loss(self) -> &'static str {
        match self {
            Self::State => {
                "the journal goes on with the lines that were still open, and steadfast journal \
                 verify tells which older ones are missing; what is known to be good is written \
                 again, the copies from the protected files that are whole; evidence and \
                 messages that were not delivered yet are lost"
            }
            Self::Journal => {
                "the journal goes on, with the lines that were still open; steadfast journal \
                 verify tells which older ones are missing, and a backup may have them"
            }
            Self::Vault => {
                "the known-good copies are made again from the protected files that are whole"
            }
            Self::Quarantine => "the evidence in it is lost",
            Self::Spool => "messages that were not delivered yet are lost",
            Self::Replicas => "other copies are made ready",
        }
    }
}

/// What somebody did.
struct Found {
    what: String,
    /// It was put right, and nothing is lost.
    mended: bool,
}

impl Found {
    fn mended(what: String) -> Self {
        Self { what, mended: true }
    }
}

impl Keeper {
    /// Keeps the open `state`, a path without symlinks.
    ///
    /// # Errors
    /// Where one of its directories cannot be opened.
    pub fn new(
        state: &Path,
        lock: StateLock,
        baseline: &Baseline,
        vault: Arc<Vault>,
        reports: Mailer<Report>,
    ) -> io::Result<Self> {
        let mut held = vec![(Part::State, Held::hold(state.to_owned(), 0o700)?)];
        for (part, name, mode) in Part::BELOW {
            held.push((part, Held::hold(state.join(name), mode)?));
        }
        Ok(Self {
            state: state.to_owned(),
            lock,
            held,
            outdated: Vec::new(),
            baseline: baseline.identity().map_err(io::Error::other)?,
            records: None,
            asked: false,
            rewritten: false,
            counted: vault.stamp().ok(),
            vault,
            reports,
            worries: Worries::default(),
            failure: None,
            trouble: None,
        })
    }

    /// What `status` is to say.
    pub(super) fn worry(&self) -> Worry {
        self.worries.shown()
    }

    /// Looks at everything, puts right what can be, and returns what is to be put on record.
    pub fn look(
        &mut self,
        baseline: &Baseline,
        journal: &mut Journal,
        spool: &mut Spool,
        evidence: &[Evidence],
    ) -> Vec<Event> {
        let mut found = Vec::new();
        let mut failures = Vec::new();
        // What can be put right is, whatever else cannot.
        failures.extend(self.look_at_directories(&mut found).err());
        failures.extend(self.look_at_lock(&mut found).err());
        failures.extend(self.look_into_baseline(baseline, evidence, &mut found).err());
        failures.extend(self.look_at_baseline(baseline, &mut found).err());
        failures.extend(self.go_on(journal, spool).err());
        failures.extend(journal.inspect().err().map(|e| e.to_string()));
        self.count_copies();
        self.failed(&failures, &mut found);
        let mut events = Vec::new();
        if !found.is_empty() {
            let mended = found.iter().all(|one| one.mended);
            let all: Vec<String> = found.into_iter().map(|one| one.what).collect();
            events.extend(self.tell(all.join("; "), mended));
        }
        events.extend(self.judge(journal.troubles()));
        events
    }

    /// What the journal noticed while it was written: somebody's doing becomes an event.
    pub fn judge(&mut self, troubles: Vec<Trouble>) -> Vec<Event> {
        let (done_by_somebody, others): (Vec<_>, Vec<_>) =
            troubles.into_iter().partition(Trouble::is_tampering);
        for trouble in others.iter().map(ToString::to_string) {
            if self.trouble.as_ref() != Some(&trouble) {
                tracing::warn!("{trouble}");
                self.trouble = Some(trouble);
            }
        }
        let tell = |trouble: &Trouble| {
            let mended = trouble.is_mended() && Journal::is_private(&self.state);
            self.tell(trouble.to_string(), mended)
        };
        done_by_somebody.iter().filter_map(tell).collect()
    }

    fn tell(&mut self, what: String, mended: bool) -> Option<Event> {
        tracing::error!("{what}");
        self.worries.take(&what, mended, Instant::now());
        Failure::StateTampered.event(what)
    }

    /// What is to be put on record once all is as it should be again, and was for a while.
    pub(super) fn recovered(&mut self) -> Option<Event> {
        let is_well = !self.is_worried();
        self.worries.settle(is_well, Instant::now()).then(|| {
            let what = "the state directory is as it should be again, and nobody was at it for a \
                        minute";
            tracing::info!("{what}");
            Event::new(Timestamp::now(), Kind::SensorRecovered, Severity::Info).noting(what)
        })
    }

    fn failed(&mut self, failures: &[String], found: &mut Vec<Found>) {
        let why = (!failures.is_empty()).then(|| failures.join("; "));
        if let Some(why) = why.as_ref().filter(|why| self.failure.as_ref() != Some(*why)) {
            let state = escape_path(&self.state);
            // Until it can be, nothing is well.
            found.push(Found::mended(format!(
                "the state directory {state} is not as it should be and cannot be put right: \
                 {why}; it is tried again every second"
            )));
        }
        self.failure = why;
    }

    fn look_at_directories(&mut self, found: &mut Vec<Found>) -> Result<(), String> {
        let mut all_gone = false;
        for (part, held) in &mut self.held {
            let path = escape_path(held.path());
            let failed = |e: io::Error| format!("{path}: {e}");
            if held.is_in_place().map_err(failed)? {
                continue;
            }
            let fate = held.bring_back().map_err(failed)?;
            let part_of_it = all_gone;
            all_gone |= *part == Part::State && matches!(fate, Fate::MadeAnew { .. });
            let told = match fate {
                Fate::PutBack { from, swapped } => {
                    let from = escape_path(&from);
                    let other = match swapped {
                        true => format!("; what was put in its place is at {from}"),
                        false => String::new(),
                    };
                    Found::mended(format!(
                        "somebody moved {path} away to {from}; it was put back{other}"
                    ))
                }
                Fate::MadeAnew { aside } => {
                    self.outdated.push(*part);
                    let other = aside.map_or_else(String::new, |aside| {
                        format!("; what was put in its place is at {}", escape_path(&aside))
                    });
                    let loss = part.loss();
                    let what = format!("somebody removed {path}; it was made again{other}; {loss}");
                    Found { what, mended: *part == Part::Replicas }
                }
            };
            if !part_of_it {
                found.push(told);
            }
        }
        Ok(())
    }

    fn look_at_lock(&mut self, found: &mut Vec<Found>) -> Result<(), String> {
        let path = self.state.join("lock");
        let failed = |e: io::Error| format!("{}: {e}", escape_path(&path));
        if identity_at(&path).map_err(failed)? == self.lock.identity() {
            return Ok(());
        }
        let dir = crate::sys::open::open_dir(&self.state).map_err(failed)?;
        set_aside(std::os::fd::AsFd::as_fd(&dir), &path).map_err(failed)?;
        self.lock = self.lock.renewed(&self.state).map_err(|e| e.to_string())?;
        if !self.outdated.contains(&Part::State) {
            let path = escape_path(&path);
            found.push(Found::mended(format!("somebody removed {path}; it was made again")));
        }
        Ok(())
    }

    /// Something is not as it should be yet.
    pub(super) fn is_worried(&self) -> bool {
        self.failure.is_some() || self.asked || !self.outdated.is_empty()
    }

    /// Keeps room for the next start.
    pub(super) fn keep_reserve(&self) {
        super::reserve::keep(&self.state);
    }

    /// All that is protected, for when the database has to be written anew.
    pub(super) fn remember(&mut self, records: Vec<Record>) {
        self.records = Some(records);
    }

    /// Whether it was, since the last call.
    pub(super) fn has_rewritten(&mut self) -> bool {
        std::mem::take(&mut self.rewritten)
    }

    /// Somebody wrote to the database: nothing in it is believed, and it is written anew from
    /// what the guard has in memory.
    fn look_into_baseline(
        &mut self,
        baseline: &Baseline,
        evidence: &[Evidence],
        found: &mut Vec<Found>,
    ) -> Result<(), String> {
        if !baseline.is_touched() {
            self.asked = false;
            return Ok(());
        }
        let Some(records) = &self.records else {
            if !std::mem::replace(&mut self.asked, true) {
                self.reports.send(Report::Records);
            }
            return Ok(());
        };
        let path = baseline.path();
        let told = |e: crate::baseline::BaselineError| e.to_string();
        let failed = |e: io::Error| format!("{}: {e}", escape_path(path));
        let dir = crate::sys::open::open_dir(&self.state).map_err(failed)?;
        let aside = set_aside(std::os::fd::AsFd::as_fd(&dir), path).map_err(failed)?;
        baseline.write_anew(records, evidence).map_err(told)?;
        self.baseline = baseline.identity().map_err(told)?;
        self.records = None;
        self.rewritten = true;
        let aside = aside.map_or_else(String::new, |aside| {
            format!("; what it became is at {}", escape_path(&aside))
        });
        found.push(Found::mended(format!(
            "somebody wrote to {} or its log; it was written again from memory{aside}",
            escape_path(path)
        )));
        Ok(())
    }

    fn look_at_baseline(
        &mut self,
        baseline: &Baseline,
        found: &mut Vec<Found>,
    ) -> Result<(), String> {
        let told = |e: crate::baseline::BaselineError| e.to_string();
        if baseline.is_touched() || baseline.identity().map_err(told)? == self.baseline {
            return Ok(());
        }
        let path = baseline.path();
        let failed = |e: io::Error| format!("{}: {e}", escape_path(path));
        let dir = crate::sys::open::open_dir(&self.state).map_err(failed)?;
        let aside = set_aside(std::os::fd::AsFd::as_fd(&dir), path).map_err(failed)?;
        baseline.renew().map_err(told)?;
        self.baseline = baseline.identity().map_err(told)?;
        let other = aside.map_or_else(String::new, |aside| {
            format!("; what was put in its place is at {}", escape_path(&aside))
        });
        if !self.outdated.contains(&Part::State) {
            let path = escape_path(path);
            let what = format!("somebody removed {path}; it was written again, whole{other}");
            found.push(Found::mended(what));
        }
        Ok(())
    }

    /// Has those who had the old directories open go on in the new ones.
    fn go_on(&mut self, journal: &mut Journal, spool: &mut Spool) -> Result<(), String> {
        while let Some(part) = self.outdated.last() {
            match part {
                Part::Journal => journal.renew(&self.state).map_err(|e| e.to_string())?,
                Part::Vault => self.vault.renew().map_err(|e| e.to_string())?,
                Part::Spool => {
                    *spool = Spool::open(&self.state).map_err(|e| e.to_string())?;
                }
                Part::Replicas => self.reports.send(Report::Restock),
                Part::State | Part::Quarantine => {}
            }
            self.outdated.pop();
        }
        Ok(())
    }

    /// Has the guard see to missing copies whenever content came or went.
    fn count_copies(&mut self) {
        let now = self.vault.stamp().ok();
        if now.is_some() && now != self.counted {
            self.counted = now;
            self.reports.send(Report::Restock);
        }
    }
}

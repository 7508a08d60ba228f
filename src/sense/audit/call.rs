//! A system call, put together from its records.
//!
//! The kernel sends a system call as several records with one serial number, and the records
//! of calls on other processors may come in between. The last is `AUDIT_EOE`. What never ends
//! is given up: memory is bounded in records, bytes and time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::record::Record;
use super::setup::PREFIX as KEY;
use crate::judge::FileTime;

const SYSCALL: u16 = 1300;
const PATH: u16 = 1302;
const CONFIG_CHANGE: u16 = 1305;
const CWD: u16 = 1307;
const EOE: u16 = 1320;
const PROCTITLE: u16 = 1327;

/// Calls that are being put together.
const MOST_PENDING: usize = 1024;
/// Names of one call that are kept; no call that matters has more.
const MOST_PATHS: usize = 16;
/// Records of one call come together; one that lacks its end for this long lacks it for good.
const GIVEN_UP: Duration = Duration::from_secs(3);
/// A number that has been passed over for this long belongs to a record that was dropped.
const MISSED: Duration = Duration::from_secs(3);
/// Numbers passed over at one time that are waited for one by one.
const MOST_MISSING: usize = 4096;

/// What a call did to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Used it as it is.
    Normal,
    /// Looked in it for another.
    Parent,
    /// Gave it.
    Create,
    /// Took it away.
    Delete,
}

/// A name in a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As the process gave it.
    pub name: Option<Vec<u8>>,
    /// Device and inode, as the filesystem's superblock has them.
    pub inode: Option<((u32, u32), u64)>,
    /// What was done to it.
    pub role: Role,
}

/// A system call that ended, and the process that made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub serial: u64,
    /// When it began.
    pub time: FileTime,
    pub arch: u32,
    pub number: u32,
    pub arguments: [u64; 4],
    pub success: bool,
    pub pid: u32,
    pub ppid: u32,
    pub login_uid: Option<u32>,
    pub uid: u32,
    pub session: Option<u32>,
    pub tty: Option<Vec<u8>>,
    pub comm: Vec<u8>,
    pub exe: Option<Vec<u8>>,
    pub cwd: Option<Vec<u8>>,
    /// The command line, cut off by the kernel at 128 bytes.
    pub title: Vec<u8>,
    pub names: Vec<Name>,
}

/// What a record completed.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A system call.
    Call(Box<Call>),
    /// Somebody changed how audit is set up.
    Configuration(Change),
}

/// What was changed of how audit is set up, as far as records may be missing for it: by the time
/// that anybody looks it may be as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was switched off.
    Off,
    /// A rule for new processes came or went: some may not be recorded as long as they live.
    Processes,
    /// A rule of somebody else for system calls, or for types of records, came or went.
    Rules,
    /// Nothing of the kind.
    Other,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Assembler {
    pending: BTreeMap<u64, (Instant, Call)>,
    serials: Serials,
    lost: bool,
}

impl Assembler {
    /// Takes a record.
    pub fn take(&mut self, kind: u16, text: &[u8], now: Instant) -> Option<Heard> {
        let record = Record::parse(text)?;
        self.serials.saw(record.serial, now);
        let serial = record.serial;
        match kind {
            CONFIG_CHANGE => return Some(Heard::Configuration(change(&record))),
            SYSCALL => {
                if let Some(call) = begin(&record) {
                    self.pending.insert(serial, (now, call));
                }
                self.keep_bounds(now);
            }
            EOE => {
                let (_, call) = self.pending.remove(&serial)?;
                return Some(Heard::Call(Box::new(call)));
            }
            _ => {
                let (_, call) = self.pending.get_mut(&serial)?;
                add(call, kind, &record);
            }
        }
        None
    }

    /// Whoever had an earlier number may have used it before anybody listened.
    pub fn begins_at(&mut self, serial: u64) {
        self.serials.missing = self.serials.missing.split_off(&serial);
    }

    /// Whether a record has been dropped since the last time that this was asked.
    pub fn lost(&mut self, now: Instant) -> bool {
        self.keep_bounds(now);
        let missed = self.serials.missed(now);
        std::mem::take(&mut self.lost) || missed
    }

    /// Whether everything with an earlier number has come in, to its end. A process may have
    /// been given a number, and kept from going on before it could use it.
    #[must_use]
    pub fn is_whole_to(&self, serial: u64) -> bool {
        self.serials.missing.range(..serial).next().is_none()
            && self.pending.range(..serial).next().is_none()
    }

    fn keep_bounds(&mut self, now: Instant) {
        while let Some(oldest) = self.pending.first_entry() {
            let over = now.saturating_duration_since(oldest.get().0) > GIVEN_UP;
            if !over && self.pending.len() <= MOST_PENDING {
                break;
            }
            self.pending.pop_first();
            self.lost = true;
        }
    }
}

fn change(record: &Record<'_>) -> Change {
    const TASK: u32 = 1;
    let ours = || record.bytes("key").is_some_and(|key| key.starts_with(KEY.as_bytes()));
    match (record.get("res"), record.get("audit_enabled"), record.number("list")) {
        (Some("0"), ..) => Change::Other,
        (_, Some("0"), _) => Change::Off,
        (_, _, Some(TASK)) => Change::Processes,
        (_, _, Some(_)) if !ours() => Change::Rules,
        _ => Change::Other,
    }
}

/// Which serial numbers have been seen.
#[derive(Debug, Default)]
struct Serials {
    highest: Option<u64>,
    missing: BTreeSet<u64>,
    since: BTreeMap<u64, Instant>,
    lost: bool,
}

impl Serials {
    fn saw(&mut self, serial: u64, now: Instant) {
        let Some(highest) = self.highest else {
            self.highest = Some(serial);
            return;
        };
        if serial <= highest {
            self.missing.remove(&serial);
            return;
        }
        let skipped = highest.saturating_add(1)..serial;
        self.highest = Some(serial);
        if skipped.is_empty() {
            return;
        }
        let room = MOST_MISSING.saturating_sub(self.missing.len()) as u64;
        if skipped.end - skipped.start > room {
            self.lost = true;
            return;
        }
        self.since.insert(skipped.start, now);
        self.missing.extend(skipped);
    }

    fn missed(&mut self, now: Instant) -> bool {
        let recent = self.since.iter().find(|(_, at)| now.saturating_duration_since(**at) < MISSED);
        // The numbers before it have been waited for long enough.
        let end = recent.map_or(u64::MAX, |(serial, _)| *serial);
        let kept = self.missing.split_off(&end);
        let missed = !std::mem::replace(&mut self.missing, kept).is_empty();
        self.since = self.since.split_off(&end);
        std::mem::take(&mut self.lost) || missed
    }
}

fn begin(record: &Record<'_>) -> Option<Call> {
    Some(Call {
        serial: record.serial,
        time: record.time,
        arch: u32::try_from(record.hex("arch")?).ok()?,
        number: record.number("syscall")?,
        arguments: ["a0", "a1", "a2", "a3"].map(|name| record.hex(name).unwrap_or(0)),
        success: record.get("success") == Some("yes"),
        pid: record.number("pid")?,
        ppid: record.number("ppid")?,
        login_uid: record.id("auid"),
        uid: record.number("euid").or_else(|| record.number("uid"))?,
        session: record.id("ses"),
        tty: record.get("tty").filter(|tty| *tty != "(none)").map(|tty| tty.as_bytes().to_vec()),
        comm: record.bytes("comm").unwrap_or_default(),
        exe: record.bytes("exe"),
        ..Call::default()
    })
}

fn add(call: &mut Call, kind: u16, record: &Record<'_>) {
    match kind {
        CWD => call.cwd = record.bytes("cwd"),
        PROCTITLE => call.title = record.bytes("proctitle").unwrap_or_default(),
        PATH if call.names.len() < MOST_PATHS => call.names.extend(name(record)),
        _ => {}
    }
}

fn name(record: &Record<'_>) -> Option<Name> {
    let role = match record.get("nametype")? {
        "NORMAL" => Role::Normal,
        "PARENT" => Role::Parent,
        "CREATE" => Role::Create,
        "DELETE" => Role::Delete,
        _ => return None,
    };
    let device = |text: &str| {
        let (major, minor) = text.split_once(':')?;
        Some((u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
    };
    let inode = record.get("dev").and_then(device).zip(record.number("inode"));
    Some(Name { name: record.bytes("name"), inode, role })
}

#[cfg(test)]
mod tests;

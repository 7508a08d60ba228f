//! What the command line and the daemon say to each other over the control socket.
//!
//! HTTP with JSON bodies: `GET /status` (and `/livez`, `/readyz` and `/metrics`, as plain text); `POST /protect`, `/release`, `/restore`, `/accept` and
//! `/selftest` take a [`Request`] and answer with a [`Report`]. Whoever accepts [`LINES`] is told
//! how far it is meanwhile, one [`Line`] a second, the report last.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::record::PathText;
use crate::selftest::SelfTest;

/// The daemon's state of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Comparing everything with the baseline; not yet on guard.
    Starting,
    /// On guard, with every sensor working.
    Watching,
    /// On guard, with less than it should have.
    Degraded,
    /// Finishing what is under way before it stops.
    Draining,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Watching => "watching",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
        })
    }
}

/// How a sensor does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorStatus {
    /// Its name.
    pub name: String,
    /// `working`, `degraded` or `unavailable`.
    pub state: String,
    /// Why it does not work as it should; empty where it does.
    pub why: String,
}

impl SensorStatus {
    /// Whether nothing is wrong with it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.state.as_str(), "working" | "unused")
    }
}

/// A protected path that lacks something it should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortcoming {
    /// The path.
    #[serde(flatten)]
    pub path: PathText,
    /// What is missing, why, and what to do.
    pub why: String,
}

/// The answer to `GET /status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The state of life.
    pub state: State,
    /// The daemon's process id.
    pub pid: u32,
    /// When it started.
    pub since: jiff::Timestamp,
    /// Number of protected paths.
    pub protected: usize,
    /// Every sensor.
    pub sensors: Vec<SensorStatus>,
    /// Open maintenance windows.
    pub windows: Vec<serde_json::Value>,
    /// Incidents that have not settled, or whose file is not whole.
    pub open_incidents: usize,
    /// Paths that are protected less well than they should be.
    pub shortcomings: Vec<Shortcoming>,
    /// The longest that a change can stay unnoticed when no event tells of it, milliseconds.
    pub worst_case_notice_ms: u64,
    /// The last self-test; `null` before the first, and where it cannot be carried out.
    #[serde(default)]
    pub selftest: Option<SelfTest>,
    /// Steadfast's own files that are watched; they are not among the protected ones.
    #[serde(default)]
    pub own: Vec<PathText>,
}

/// A command that changes something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What it is about; nothing for `/selftest`.
    pub paths: Vec<PathText>,
    /// Why, in the person's words; for `/accept`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What became of one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathReport {
    /// The path.
    #[serde(flatten)]
    pub path: PathText,
    /// What was done, or what went wrong and what to do about it.
    pub message: String,
    /// Whether it was done.
    pub done: bool,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// One for each path, in the order asked.
    pub paths: Vec<PathReport>,
    /// For `/restore`: what is in a protected directory, does not belong there, and stays.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<PathText>,
    /// For `/selftest`: what it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selftest: Option<Box<SelfTest>>,
    /// For `/selftest`: why it could not be carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<String>,
}

/// The media type of an answer in [`Line`]s.
pub const LINES: &str = "application/x-ndjson";

/// A line of an answer that tells how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// So far.
    Progress(Progress),
    /// The end.
    Report(Report),
    /// It was given up; the sentence says why.
    Error(String),
}

/// How far a command has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Paths that are done.
    pub done: u64,
    /// Paths in all.
    pub of: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// [`Progress`], counted by one thread and read by another.
#[derive(Debug, Default)]
pub struct Gauge {
    done: AtomicU64,
    of: AtomicU64,
    bytes: AtomicU64,
}

impl Gauge {
    /// There are so many paths.
    pub fn set_paths(&self, count: usize) {
        self.of.store(count as u64, Ordering::Relaxed);
    }

    /// One more path is done.
    pub fn path_done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// So many paths are done.
    pub fn set_done(&self, count: usize) {
        self.done.store(count as u64, Ordering::Relaxed);
    }

    /// So many more bytes were read.
    pub fn add_bytes(&self, count: u64) {
        self.bytes.fetch_add(count, Ordering::Relaxed);
    }

    /// How far it is.
    #[must_use]
    pub fn read(&self) -> Progress {
        Progress {
            done: self.done.load(Ordering::Relaxed),
            of: self.of.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Command {
    /// The word a person types, and the route.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Protect => "protect",
            Self::Release => "release",
            Self::Restore => "restore",
            Self::Accept => "accept",
            Self::Selftest => "selftest",
        }
    }
}

/// Which command a [`Request`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take the known-good copy, add to the baseline, set `+i`.
    Protect,
    /// Stop protecting.
    Release,
    /// Put the known-good copy back now.
    Restore,
    /// What is there now becomes known good.
    Accept,
    /// Tamper with a canary by every route.
    Selftest,
}

//! What the journal has to say of an incident.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::{Guard, poll};

/// The kinds that are somebody's doing, as the design lists them.
pub const TAMPERING: [&str; 10] = [
    "immutable-cleared",
    "content-changed",
    "metadata-changed",
    "deleted",
    "replaced",
    "moved",
    "created",
    "shadowed",
    "mass-change",
    "drift-found",
];

/// The journal lines of one incident.
pub struct Incident {
    /// Every line, tampering and answer.
    pub lines: Vec<Value>,
    /// What the daemon printed and the journal, for a failing test.
    pub story: String,
}

/// Waits until everything about `path` is settled; there has to be exactly one incident since
/// the line `after`, or at most as many as tries were needed to get through.
pub fn incident_of(guard: &Guard, path: &Path, after: u64) -> Incident {
    let recent = || {
        let lines = guard.events_about(path).into_iter();
        lines.filter(|line| line["seq"].as_u64() > Some(after)).collect::<Vec<_>>()
    };
    poll(
        || {
            let noticed = recent().iter().any(is_tampering);
            (noticed && guard.status()["open_incidents"] == 0).then_some(())
        },
        || format!("no settled incident of {}\n{}", path.display(), guard.story()),
    );
    let lines: Vec<_> = recent().into_iter().filter(|line| line["incident"].is_string()).collect();
    let ids: BTreeSet<_> = lines.iter().filter_map(|line| line["incident"].as_str()).collect();
    let tries = guard.tries().max(1);
    let fits = (1..=tries).contains(&ids.len());
    assert!(fits, "{tries} tries make as many incidents at most, not {ids:?}\n{}", guard.story());
    Incident { lines, story: guard.story() }
}

fn is_tampering(line: &Value) -> bool {
    line["kind"].as_str().is_some_and(|kind| TAMPERING.contains(&kind))
}

impl Incident {
    /// The kinds of tampering in it.
    pub fn kinds(&self) -> BTreeSet<&str> {
        self.tampering().filter_map(|line| line["kind"].as_str()).collect()
    }

    /// The lines that tell of a change, and not only that something is not as it should be.
    pub fn changes(&self) -> impl Iterator<Item = &Value> {
        self.tampering().filter(|line| line["kind"] != "drift-found")
    }

    fn tampering(&self) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(|line| is_tampering(line))
    }

    /// Whether one of its lines, of any sort, is of this kind.
    pub fn has(&self, kind: &str) -> bool {
        self.lines.iter().any(|line| line["kind"] == kind)
    }

    /// It names no kind of tampering but these, `immutable-cleared` and `drift-found`.
    pub fn assert_only(&self, sensible: &[&str]) -> &Self {
        let always = ["immutable-cleared", "drift-found"];
        for kind in self.kinds() {
            let fits = sensible.contains(&kind) || always.contains(&kind);
            assert!(fits, "{kind:?} is none of {sensible:?}\n{}", self.story);
        }
        self
    }

    /// It names at least one of these kinds of tampering.
    pub fn assert_any(&self, wanted: &[&str]) -> &Self {
        let kinds = self.kinds();
        let found = kinds.iter().any(|kind| wanted.contains(kind));
        assert!(found, "none of {wanted:?} among {kinds:?}\n{}", self.story);
        self
    }

    /// It says that the file was put right, and nothing of a failure but that it was undone: a
    /// test that tampers until it gets through may do so twice in a row.
    pub fn assert_healed(&self) -> &Self {
        assert!(self.has("restored") || self.has("relocked"), "no heal\n{}", self.story);
        let undone = |line: &Value| {
            line["note"].as_str().is_some_and(|note| note.contains("is different again at once"))
        };
        let mut failures = self.lines.iter().filter(|line| line["kind"] == "restore-failed");
        assert!(failures.all(undone), "a failed heal\n{}", self.story);
        let answered = |line: &Value| {
            let responses = line["response"].as_array();
            responses.is_some_and(|all| all.iter().any(|r| r["outcome"] == "done"))
        };
        assert!(self.lines.iter().any(answered), "no response that is done\n{}", self.story);
        self
    }

    /// One of its lines names a process, each process that is named is one of `programs`, and
    /// a source and a confidence come with it. Where it says that several may have done it, one
    /// of `programs` is among them: the test itself reads the file, and on a machine that is so
    /// busy that audit's records are late or lost nobody can tell the two apart.
    pub fn assert_names(&self, programs: &[String]) -> &Self {
        let named: Vec<_> = self.tampering().filter(|line| line["actor"].is_object()).collect();
        // `rm` and `mv` open nothing, and live for a millisecond: where that is too short, the
        // journal has to say so.
        let why = |line: &Value| line["note"].as_str().is_some_and(|note| note.contains("exited"));
        let explained = self.tampering().any(why);
        assert!(!named.is_empty() || explained, "nobody is named\n{}", self.story);
        for line in named {
            let actor = &line["actor"];
            let comm = actor["comm"].as_str().unwrap_or_default();
            let is_known = |comm: &str| programs.iter().any(|name| comm == name);
            let others = line["others"].as_array().unwrap().iter();
            let among = others.filter_map(|one| one["comm"].as_str()).any(is_known);
            let known = is_known(comm) || (among && line["attribution"]["confidence"] != "exact");
            assert!(known, "{comm:?} is not one of {programs:?}\n{}", self.story);
            assert!(actor["pid"].as_u64() > Some(0) && actor["exe"].is_string(), "{line}");
            assert_ne!(line["attribution"]["source"], "none", "{line}");
            assert_ne!(line["attribution"]["confidence"], "unknown", "{line}");
        }
        self
    }

    /// Lines without a process say so, and lines with one say how they know.
    pub fn assert_honest(&self) -> &Self {
        for line in self.tampering() {
            let unknown = line["attribution"]["confidence"] == "unknown";
            assert_eq!(line["actor"].is_null(), unknown, "{line}\n{}", self.story);
        }
        self
    }
}

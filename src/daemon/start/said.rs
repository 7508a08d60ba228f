//! What the runs that ended suddenly still had time to say, as far as it matters for evidence that
//! lies in the quarantine: of which path and incident there is a line, and of which content.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::baseline::Evidence;
use crate::judge::{Facts, FileTime};
use crate::record::{self, Event, Filter, Kind, Severity};

/// What is said of a content is said of the file that had it this long afterwards, in seconds; the
/// same content later is another tampering.
const SAID_WITHIN: i64 = 10;
/// A line has the time at which the change was noticed, which is before anything was taken.
const BEFORE: SignedDuration = SignedDuration::from_mins(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// When last.
    contents: HashMap<(PathBuf, String), Timestamp>,
    incidents: HashSet<(String, PathBuf)>,
    /// When a run last ended well, which had said all by then.
    all: Option<Timestamp>,
}

impl Said {
    /// By the journal, of what was taken since then.
    pub(super) fn since(state: &Path, taken: Option<Timestamp>) -> Self {
        let since = taken.and_then(|at| at.checked_sub(BEFORE).ok());
        let mut said = Self::default();
        let entries = record::read(state, Filter { since, ..Filter::default() });
        for entry in entries.into_iter().flatten().filter_map(Result::ok) {
            let Event { kind, severity, path, after, time, incident, .. } = entry.event;
            // One that left something under way says so with a warning.
            if kind == Kind::Stopped && severity == Severity::Info {
                said.contents.clear();
                said.all = Some(time);
            }
            // Of some evidence nobody knows any more where it stood.
            let path = path.map_or(PathBuf::new(), |path| path.to_path());
            if let Some(digest) = after.get("sha256").and_then(|digest| digest.as_str()) {
                said.contents.insert((path.clone(), digest.to_owned()), time);
            }
            said.incidents.extend(incident.map(|incident| (incident, path)));
        }
        said
    }

    /// Whether this was told of, which was taken then. Lines tell a content only where it is not
    /// the `good` one.
    pub(super) fn tells_of(
        &self,
        evidence: &Evidence,
        found: Option<&Facts>,
        good: Option<&Facts>,
        taken: FileTime,
    ) -> bool {
        if self.all.is_some_and(|all| evidence.taken_at <= all) {
            return true;
        }
        let digest = found.and_then(|facts| facts.sha256);
        let tampered = |digest| good.is_some_and(|good| good.sha256 != Some(digest));
        let content = digest.is_some_and(|digest| {
            let digest = digest.to_string();
            let own = |path: &Path| evidence.path.as_os_str().is_empty() || path == evidence.path;
            let mut said =
                self.contents.iter().filter(|((path, of), _)| own(path) && *of == digest);
            said.any(|(_, at)| at.as_second().saturating_add(SAID_WITHIN) >= taken.sec)
        });
        let incident = || (evidence.incident.clone(), evidence.path.clone());
        content || (!digest.is_some_and(tampered) && self.incidents.contains(&incident()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::Baseline;
    use crate::judge::FileKind;
    use crate::record::Journal;

    /// Whether a run that ended with such a line is believed to have told of what it took before.
    fn had_told(severity: Severity) -> bool {
        let state = tempfile::tempdir().unwrap();
        let baseline = Baseline::open(state.path()).unwrap();
        let (mut journal, _) = Journal::open(state.path(), &baseline).unwrap();
        let taken_at = Timestamp::now();
        journal.append(&[Event::new(Timestamp::now(), Kind::Stopped, severity)]).unwrap();
        let evidence = Evidence {
            id: 1,
            incident: "of no line".to_owned(),
            path: "/etc/app.conf".into(),
            location: "/nowhere".into(),
            kind: FileKind::File,
            size: 1,
            blocks: 8,
            taken_at,
        };
        let said = Said::since(state.path(), Some(taken_at));
        said.tells_of(&evidence, None, None, FileTime::default())
    }

    #[test]
    fn a_run_that_stopped_with_something_under_way_may_not_have_told_of_all() {
        assert!(had_told(Severity::Info));
        assert!(!had_told(Severity::Warning));
    }
}

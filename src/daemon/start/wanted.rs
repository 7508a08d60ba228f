//! What is to be protected, found out before anything is touched.
//!
//! What the baseline knows already is never looked up again: the filesystem may be as a
//! tamperer left it, and a name that leads somewhere else today must neither be followed there
//! nor be forgotten here. Only what is new is resolved, and nothing that appeared inside
//! something protected counts as new: that is a stranger, and drift.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::baseline::{Origin, Patterns, Record};
use crate::config::{
    Config, Obstacle, Protect, Unresolved, canonical_path, covers, is_glob, resolve, resolve_path,
};
use crate::judge::Policy;

/// Everything that keeps the watch from beginning, told at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Obstacles(pub Vec<String>);

/// What the configuration and the command line want.
#[derive(Debug, Default)]
pub struct Wanted {
    /// From the configuration.
    pub configured: HashMap<PathBuf, Policy>,
    /// From the command line.
    pub named: Vec<PathBuf>,
    /// What stands in nobody's way and is worth saying.
    pub warnings: Vec<String>,
}

impl Wanted {
    /// Finds out what `config` and the paths `named` on the command line come to, beside what
    /// is `known`, which is sorted by path. What has come to match one of the `patterns` that were
    /// in force before is a stranger, unless it was released.
    ///
    /// # Errors
    /// Everything that cannot be resolved, at once.
    pub fn of(
        config: &Config,
        named: &[PathBuf],
        known: &[Record],
        patterns: &Patterns,
    ) -> Result<Self, Obstacles> {
        let known = Known { records: known, patterns, state: &config.daemon.state };
        let mut wanted = Self::default();
        let mut obstacles = Vec::new();
        for protect in &config.protect {
            for text in &protect.paths {
                let (paths, problems) = match is_glob(text) {
                    true => known.pattern(config, text),
                    false => known.literal(Path::new(text)),
                };
                wanted.configured.extend(paths.into_iter().map(|path| (path, protect.policy)));
                for problem in problems {
                    match problem.is_warning() {
                        true => wanted.warnings.push(problem.message),
                        false => obstacles.push(problem.message),
                    }
                }
            }
        }
        for path in named {
            let (paths, problems) = known.literal(path);
            wanted.named.extend(paths);
            obstacles.extend(problems.into_iter().map(|problem| problem.message));
        }
        if obstacles.is_empty() { Ok(wanted) } else { Err(Obstacles(obstacles)) }
    }

    /// The same where the baseline cannot be read, so that nothing can begin: whatever else is in
    /// the way. What is not there may be protected, so that is not said to be wrong.
    ///
    /// # Errors
    /// Everything that cannot be resolved, at once.
    pub fn without_baseline(config: &Config, named: &[PathBuf]) -> Result<Self, Obstacles> {
        let mut problems = resolve(config).problems;
        problems.extend(named.iter().filter_map(|p| resolve_path(p, &config.daemon.state).err()));
        problems.retain(|one| !one.is_warning() && one.obstacle != Obstacle::Missing);
        let obstacles: Vec<_> = problems.into_iter().map(|one| one.message).collect();
        if obstacles.is_empty() { Ok(Self::default()) } else { Err(Obstacles(obstacles)) }
    }
}

type Found = (Vec<PathBuf>, Vec<Unresolved>);

/// What the baseline has.
struct Known<'a> {
    records: &'a [Record],
    patterns: &'a Patterns,
    state: &'a Path,
}

impl Known<'_> {
    fn literal(&self, path: &Path) -> Found {
        let spellings = [path.to_owned(), canonical_path(path)];
        if let Some(record) = spellings.iter().find_map(|spelt| self.record(spelt)) {
            let mut covered = BTreeSet::new();
            self.cover(record, &mut covered);
            return (covered.into_iter().collect(), Vec::new());
        }
        match resolve_path(path, self.state) {
            Ok(found) => (self.without_strangers(found), Vec::new()),
            Err(problem) => (Vec::new(), vec![problem]),
        }
    }

    /// The record, all below it, and where a link led when it was good.
    fn cover(&self, record: &Record, covered: &mut BTreeSet<PathBuf>) {
        let below = self.records.iter().filter(|other| other.path.starts_with(&record.path));
        covered.extend(below.map(|other| other.path.to_path_buf()));
        let Some(target) = &record.facts.target else { return };
        let target: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(target.as_slice());
        let end = canonical_path(&record.path.parent().unwrap_or(Path::new("/")).join(target));
        if let Some(end) = self.record(&end)
            && !covered.contains(&*end.path)
        {
            self.cover(end, covered);
        }
    }

    fn pattern(&self, config: &Config, text: &str) -> Found {
        let mut covered: Vec<PathBuf> = self
            .records
            .iter()
            .filter(|record| record.origin == Origin::Configuration && covers(text, &record.path))
            .map(|record| record.path.to_path_buf())
            .collect();
        let alone = Config {
            protect: vec![Protect { paths: vec![text.to_owned()], policy: Policy::default() }],
            daemon: config.daemon.clone(),
            ..Config::default()
        };
        let resolved = resolve(&alone);
        let new: Vec<_> = resolved.files.into_iter().map(|(path, _)| path).collect();
        let in_force = self.patterns.texts.iter().any(|known| known == text);
        let new = new.into_iter().filter(|path| !in_force || self.patterns.released.contains(path));
        covered.extend(self.without_strangers(new.collect()));
        let unmet =
            |problem: &Unresolved| problem.obstacle != Obstacle::NoMatch || covered.is_empty();
        (covered.clone(), resolved.problems.into_iter().filter(unmet).collect())
    }

    /// Leaves out what is inside something that is protected, and not known.
    fn without_strangers(&self, mut found: Vec<PathBuf>) -> Vec<PathBuf> {
        let inside =
            |path: &Path| path.ancestors().skip(1).any(|above| self.record(above).is_some());
        found.retain(|path| self.record(path).is_some() || !inside(path));
        found
    }

    fn record(&self, path: &Path) -> Option<&Record> {
        self.records
            .binary_search_by(|record| (*record.path).cmp(path))
            .ok()
            .and_then(|at| self.records.get(at))
    }
}

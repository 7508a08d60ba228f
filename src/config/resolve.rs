//! From what was typed to the files that are there: globs expanded, parents canonical.
//!
//! A resolved path is absolute and has no symlink in its parents, so that a protected file has
//! one name and whoever opens it later can insist on meeting no symlink. The walk follows no
//! symlinked directory, leaves alone what the kernel makes up (`/proc`, `/sys`, `/dev`, and
//! their like wherever they are mounted) and steadfast's own state.

use std::collections::BTreeMap;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use walkdir::WalkDir;

use super::Config;
use super::glob::{Glob, is_glob};
use super::territory::forbidden;
use crate::judge::Policy;
use crate::text::escape_path;

/// More paths than this are a mistake in the configuration, not a wish.
const PATHS_MAX: usize = 1_000_000;

/// The kernel's own limit for a chain of symlinks.
const LINKS_MAX: usize = 40;

/// What a path or pattern could not be resolved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing is there.
    Missing,
    /// A pattern matches nothing; it may later.
    NoMatch,
    /// It is something that steadfast does not protect.
    Refused,
    /// The same, but only found on the way: the rest is protected.
    PassedBy,
    /// It could not be looked at.
    Unreadable,
}

/// A path or pattern that could not be resolved, or only in part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unresolved {
    /// The path, canonical as far as it exists; for a pattern the pattern itself.
    pub path: PathBuf,
    /// Why.
    pub obstacle: Obstacle,
    /// What is wrong and what to do, with the path in it, safe to print.
    pub message: String,
}

impl Unresolved {
    fn new(path: &Path, obstacle: Obstacle, why: impl std::fmt::Display) -> Self {
        let message = format!("{} {why}", escape_path(path));
        Self { path: path.to_owned(), obstacle, message }
    }

    /// Whether the rest can go on as if nothing were wrong.
    #[must_use]
    pub fn is_warning(&self) -> bool {
        matches!(self.obstacle, Obstacle::NoMatch | Obstacle::PassedBy)
    }
}

/// What a configuration comes to on this host, now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Every path to protect, once, in order.
    pub files: Vec<(PathBuf, Policy)>,
    /// What could not be resolved.
    pub problems: Vec<Unresolved>,
}

/// Expands everything that `config` protects. Where two tables name one path, the later wins.
#[must_use]
pub fn resolve(config: &Config) -> Resolution {
    let mut files = BTreeMap::new();
    let mut problems = Vec::new();
    for protect in &config.protect {
        for text in &protect.paths {
            let mut walk = Walk::new(&config.daemon.state);
            if is_glob(text) {
                walk.pattern(text);
            } else {
                walk.named(Path::new(text));
            }
            files.extend(walk.found.into_iter().map(|path| (path, protect.policy)));
            problems.extend(walk.problems);
        }
    }
    Resolution { files: files.into_iter().collect(), problems }
}

/// Everything that one literal path protects: itself; for a directory all that is below it;
/// for a symlink also what it points to. Never a pattern: `*` in it is a star.
///
/// # Errors
///
/// The first thing that stands in the way.
pub fn resolve_path(path: &Path, state: &Path) -> Result<Vec<PathBuf>, Unresolved> {
    let mut walk = Walk::new(state);
    walk.named(path);
    walk.end()
}

/// What is at `path`, a canonical one, by itself: for a directory with all that is below it, and
/// for a symlink without what it points to.
///
/// # Errors
///
/// The first thing that stands in the way.
pub fn contents(path: &Path, state: &Path) -> Result<Vec<PathBuf>, Unresolved> {
    let mut walk = Walk::new(state);
    if let Some(metadata) = walk.look(path) {
        walk.take(path, &metadata);
    }
    walk.end()
}

/// Whether the pattern `text` names `path`, or a directory above it: told from the names alone,
/// whatever is there now.
#[must_use]
pub fn covers(text: &str, path: &Path) -> bool {
    let Ok((glob, matcher)) = Glob::new(text)
        .and_then(|glob| glob.matcher().map(|m| (glob, m)).map_err(|e| e.to_string()))
    else {
        return false;
    };
    let bases = [glob.base.canonicalize().ok(), Some(glob.base)];
    bases.iter().flatten().filter_map(|base| path.strip_prefix(base).ok()).any(|below| {
        below.ancestors().any(|part| !part.as_os_str().is_empty() && matcher.is_match(part))
    })
}

/// Whether `config` names `path`, a directory above it, or a link that leads to it. A link that is
/// `known` is not followed again.
#[must_use]
pub fn names(config: &Config, path: &Path, known: &dyn Fn(&Path) -> bool) -> bool {
    let mut texts = config.protect.iter().flat_map(|protect| &protect.paths);
    texts.any(|text| {
        if is_glob(text) {
            return covers(text, path);
        }
        let named = canonical_path(Path::new(text));
        path.starts_with(&named)
            || (!known(&named) && named.canonicalize().is_ok_and(|end| path.starts_with(end)))
    })
}

/// `path` with canonical parents and its own last component as it is, so that a symlink is
/// meant itself. What does not exist is taken as written, without `.` and `..`.
#[must_use]
pub fn canonical_path(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return path.canonicalize().unwrap_or_else(|_| lexical(path));
    };
    let mut ancestor = parent;
    loop {
        match (ancestor.canonicalize(), ancestor.parent()) {
            (Ok(real), _) => {
                let missing = parent.strip_prefix(ancestor).unwrap_or(Path::new(""));
                return lexical(&real.join(missing).join(name));
            }
            (Err(_), Some(above)) => ancestor = above,
            (Err(_), None) => return lexical(path),
        }
    }
}

fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// One search, for one path or pattern.
struct Walk {
    /// The state directory, canonical.
    state: PathBuf,
    found: Vec<PathBuf>,
    problems: Vec<Unresolved>,
}

impl Walk {
    fn new(state: &Path) -> Self {
        let state = state.canonicalize().unwrap_or_else(|_| lexical(state));
        Self { state, found: Vec::new(), problems: Vec::new() }
    }

    fn end(self) -> Result<Vec<PathBuf>, Unresolved> {
        match self.problems.into_iter().find(|problem| !problem.is_warning()) {
            Some(problem) => Err(problem),
            None => Ok(self.found),
        }
    }

    fn refuse(&mut self, path: &Path, obstacle: Obstacle, why: impl std::fmt::Display) {
        self.problems.push(Unresolved::new(path, obstacle, why));
    }

    /// A path that was named itself; symlinks on the way are part of what it protects.
    fn named(&mut self, path: &Path) {
        let mut path = canonical_path(path);
        for _ in 0..LINKS_MAX {
            let Some(metadata) = self.look(&path) else { return };
            if !metadata.is_symlink() {
                return self.take(&path, &metadata);
            }
            self.found.push(path.clone());
            match std::fs::read_link(&path) {
                Ok(target) => {
                    let directory = path.parent().unwrap_or(Path::new("/"));
                    path = canonical_path(&directory.join(target));
                }
                Err(error) => return self.unreadable(&path, &error),
            }
        }
        self.refuse(&path, Obstacle::Refused, "is a symbolic link that leads in a circle: mend it");
    }

    /// `lstat`, with everything that cannot be protected refused.
    fn look(&mut self, path: &Path) -> Option<Metadata> {
        if path.parent().is_none() {
            self.refuse(path, Obstacle::Refused, "is the whole system: name the files that matter");
            return None;
        }
        if let Some(why) = forbidden(path, &self.state) {
            self.refuse(path, Obstacle::Refused, why);
            return None;
        }
        match path.symlink_metadata() {
            Ok(metadata) => Some(metadata),
            Err(error) => {
                self.unreadable(path, &error);
                None
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.refuse(
                path,
                Obstacle::Missing,
                "does not exist: create it first, or correct the path",
            ),
            io::ErrorKind::PermissionDenied => {
                self.refuse(path, Obstacle::Unreadable, "cannot be looked at: run this as root");
            }
            _ => self.refuse(path, Obstacle::Unreadable, format!("cannot be looked at: {error}")),
        }
    }

    /// A file or link by itself, a directory with all below. A special file is a problem where a
    /// person named it; a walk passes by it and says so.
    fn take(&mut self, path: &Path, metadata: &Metadata) {
        let kind = metadata.file_type();
        if kind.is_dir() {
            self.below(path);
        } else if kind.is_file() || kind.is_symlink() {
            self.found.push(path.to_owned());
        } else {
            self.refuse(path, Obstacle::Refused, refusal(kind));
        }
    }

    /// A directory and all below it.
    fn below(&mut self, directory: &Path) {
        let (found, problems) = self.search(directory, None, |_| true);
        self.found.extend(found);
        self.problems.extend(problems);
    }

    fn pattern(&mut self, text: &str) {
        let pattern = Path::new(text);
        let Ok((glob, matcher)) = Glob::new(text)
            .and_then(|glob| glob.matcher().map(|m| (glob, m)).map_err(|e| e.to_string()))
        else {
            return self.refuse(pattern, Obstacle::Refused, "is not a pattern: correct it");
        };
        let Ok(base) = glob.base.canonicalize() else {
            let why = format!("matches nothing: {} does not exist", escape_path(&glob.base));
            return self.refuse(pattern, Obstacle::NoMatch, why);
        };
        if let Some(why) = forbidden(&base, &self.state) {
            return self.refuse(pattern, Obstacle::Refused, why);
        }
        let (matched, problems) = self.search(&base, glob.depth(), |path| {
            let below = path.strip_prefix(&base).unwrap_or(path);
            path != base && matcher.is_match(below)
        });
        self.problems.extend(problems);
        if matched.is_empty() {
            return self.refuse(pattern, Obstacle::NoMatch, "matches nothing");
        }
        for path in matched {
            // Gone again since the walk saw it: not there is not there.
            let Ok(metadata) = path.symlink_metadata() else { continue };
            self.take(&path, &metadata);
        }
        self.found.sort_unstable();
        self.found.dedup();
    }

    /// Walks below `base` and keeps files, directories and links that `wanted` wants.
    fn search(
        &self,
        base: &Path,
        depth: Option<usize>,
        wanted: impl Fn(&Path) -> bool,
    ) -> (Vec<PathBuf>, Vec<Unresolved>) {
        let (mut found, mut problems) = (Vec::new(), Vec::new());
        let walk = WalkDir::new(base).max_depth(depth.unwrap_or(usize::MAX)).sort_by_file_name();
        let enter = |entry: &walkdir::DirEntry| {
            entry.depth() == 0
                || !entry.file_type().is_dir()
                || forbidden(entry.path(), &self.state).is_none()
        };
        for entry in walk.into_iter().filter_entry(enter) {
            match entry {
                Ok(entry) if !wanted(entry.path()) => {}
                Ok(entry) if special(entry.file_type()).is_some() => {
                    let why = refusal(entry.file_type());
                    problems.push(Unresolved::new(entry.path(), Obstacle::PassedBy, why));
                }
                Ok(entry) => found.push(entry.into_path()),
                Err(error) => {
                    let path = error.path().unwrap_or(base).to_owned();
                    let why = error.io_error().map_or_else(|| error.to_string(), |e| e.to_string());
                    let why = format!("cannot be read: {}", crate::text::escape(why.as_bytes()));
                    problems.push(Unresolved::new(&path, Obstacle::Unreadable, why));
                }
            }
            if found.len() + problems.len() > PATHS_MAX {
                let why = format!("holds more than {PATHS_MAX} files: name fewer");
                problems.push(Unresolved::new(base, Obstacle::Refused, why));
                break;
            }
        }
        (found, problems)
    }
}

/// What has no content to keep, in words; `None` for what can be protected.
#[must_use]
pub fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() || kind.is_dir() || kind.is_symlink() => None,
        kind if kind.is_fifo() => Some("named pipe"),
        kind if kind.is_socket() => Some("socket"),
        _ => Some("device"),
    }
}

fn refusal(kind: FileType) -> String {
    let what = special(kind).unwrap_or("file");
    format!(
        "is a {what} and is not protected: steadfast protects files, directories and symbolic links"
    )
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;

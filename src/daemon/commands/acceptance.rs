//! What `accept` comes to: a file is known good as it is now, and a protected directory is known
//! good with what is in it now. What is new in it is protected as the directory is, what is gone
//! from it is released.
//!
//! A path that is gone and lies in no protected directory is nobody's wish to forget: `release`
//! says that, and `restore` the opposite.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::baseline::Origin;
use crate::config::{Config, Obstacle, contents, names};
use crate::judge::{FileKind, Policy, Unexpected};

/// What the baseline has of a protected path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// What the owner wants.
    pub policy: Policy,
    /// Why it is protected.
    pub origin: Origin,
    /// What it was when it was good.
    pub kind: FileKind,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// What is there is known good, and protected like this from now on.
    Take(PathBuf, Policy, Origin),
    /// It is gone, and is to be forgotten.
    Release(PathBuf),
}

/// What accepting `asked`, a canonical path, comes to. `known` tells of a path that is protected;
/// `below` are those at and below `asked`.
///
/// # Errors
/// A sentence: why nothing can be accepted there.
pub fn plan(
    asked: &Path,
    below: &[PathBuf],
    state: &Path,
    known: &dyn Fn(&Path) -> Option<Known>,
) -> Result<Vec<Step>, String> {
    let home = home(asked, known);
    let Some((home, theirs)) = home else { return alone(asked, below, known) };
    let mut present = match contents(asked, state) {
        Ok(found) => found,
        Err(e) if e.obstacle == Obstacle::Missing => Vec::new(),
        Err(e) => return Err(e.message),
    };
    let there: HashSet<&PathBuf> = present.iter().collect();
    let gone: Vec<PathBuf> = below.iter().filter(|p| !there.contains(p)).cloned().collect();
    if present.is_empty() {
        let within = asked.parent().is_some_and(|above| self::home(above, known).is_some());
        match (gone.is_empty(), within) {
            (true, _) => return Err(UNKNOWN.into()),
            (false, false) => return Err(GONE.into()),
            (false, true) => {}
        }
    }
    // A name in a new directory needs that directory.
    let between = asked.ancestors().skip(1).take_while(|above| *above != home);
    let between = between.filter(|above| above.starts_with(&home) && known(above).is_none());
    present.extend(between.map(Path::to_path_buf));
    let mut steps: Vec<Step> = gone.into_iter().map(Step::Release).collect();
    // What is in a directory comes before it: it has to be known when strangers are looked for.
    present.sort_unstable_by(|a, b| b.cmp(a));
    steps.extend(present.into_iter().map(|path| {
        let Known { policy, origin, .. } = known(&path).unwrap_or(theirs);
        Step::Take(path, policy, origin)
    }));
    Ok(steps)
}

/// Why a path is released that is gone from a protected directory.
pub const ACCEPTED_GONE: &str = "it was gone, and that was accepted";

/// Why a path was released that a person named.
pub const BY_COMMAND: &str = "released by command";

/// What is said of `path`, which was released for this reason. `known` tells of what is protected
/// now.
#[must_use]
pub fn released(
    path: &Path,
    why: &str,
    config: &Config,
    known: &dyn Fn(&Path) -> Option<Known>,
) -> String {
    let inside = || path.parent().and_then(|above| home(above, known));
    match why {
        ACCEPTED_GONE => "is gone, and no longer protected".into(),
        BY_COMMAND if let Some((home, _)) = inside() => format!(
            "is no longer protected; the directory {} still is, and it does not belong there from \
             now on: 'steadfast accept PATH' takes it in again",
            crate::text::escape_path(home)
        ),
        BY_COMMAND if names(config, path, &|path| known(path).is_some()) => {
            "is no longer protected; the configuration still names it, so the next start protects \
             it again, and so does a reload, as it is then: if that is not wanted, take it out of \
             the configuration"
                .into()
        }
        _ => "is no longer protected".into(),
    }
}

/// Why `asked` cannot be released by itself, if it cannot: it would be a stranger at once, and be
/// moved away.
#[must_use]
pub fn must_stay(asked: &Path, known: &dyn Fn(&Path) -> Option<Known>) -> Option<String> {
    let (home, found) = home(asked.parent()?, known)?;
    let goes = found.policy.unexpected == Unexpected::Quarantine;
    (goes && asked.symlink_metadata().is_ok()).then(|| {
        format!(
            "stays protected: in the directory {} what is not protected goes to the quarantine; \
             release that, or move it out of there",
            crate::text::escape_path(home)
        )
    })
}

/// What is said of a path that is nowhere.
const UNKNOWN: &str = "does not exist, and is not protected: check the spelling";

/// What is said of a protected path that is not there.
pub const GONE: &str = "is gone: 'steadfast restore PATH' puts it back, 'steadfast release PATH' \
                        stops protecting it";

/// The protected directory that `path` is, or is in.
#[must_use]
pub fn home(path: &Path, known: &dyn Fn(&Path) -> Option<Known>) -> Option<(PathBuf, Known)> {
    path.ancestors()
        .filter_map(|above| Some((above.to_path_buf(), known(above)?)))
        .find(|(_, found)| found.kind == FileKind::Directory)
}

/// Why a command can do nothing about `path`, which is not protected.
#[must_use]
pub fn not_protected(path: &Path, known: &dyn Fn(&Path) -> Option<Known>) -> String {
    match home(path, known) {
        Some((home, _)) if path.symlink_metadata().is_ok() => format!(
            "does not belong in the protected directory {}; 'steadfast accept PATH' takes it in",
            crate::text::escape_path(home)
        ),
        None if path.symlink_metadata().is_ok() => {
            "is not protected; 'steadfast protect PATH' takes it under protection".into()
        }
        _ => UNKNOWN.into(),
    }
}

/// In no protected directory: what is protected at and below the path, each by itself.
fn alone(
    asked: &Path,
    below: &[PathBuf],
    known: &dyn Fn(&Path) -> Option<Known>,
) -> Result<Vec<Step>, String> {
    if below.is_empty() {
        return Err(not_protected(asked, known));
    }
    if known(asked).is_some() && asked.symlink_metadata().is_err() {
        return Err(GONE.into());
    }
    let take = |path: &PathBuf| {
        let Known { policy, origin, .. } = known(path)?;
        Some(Step::Take(path.clone(), policy, origin))
    };
    Ok(below.iter().filter_map(take).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Known =
        Known { policy: POLICY, origin: Origin::Configuration, kind: FileKind::Directory };
    const POLICY: Policy = Policy {
        immutable: false,
        restore: false,
        alert: crate::judge::AlertWhen::Never,
        unexpected: Unexpected::Report,
    };

    /// A directory with `old`, `sub/new` and a protected name `gone` that is not there.
    fn room() -> (tempfile::TempDir, PathBuf) {
        let room = tempfile::tempdir().unwrap();
        let dir = room.path().canonicalize().unwrap().join("d");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("old"), "").unwrap();
        std::fs::write(dir.join("sub/new"), "").unwrap();
        (room, dir)
    }

    fn planned(dir: &Path, asked: &str) -> Result<Vec<Step>, String> {
        let names = ["", "old", "gone"].map(|name| match name {
            "" => dir.to_path_buf(),
            name => dir.join(name),
        });
        let asked = if asked.is_empty() { dir.to_path_buf() } else { dir.join(asked) };
        let below: Vec<_> = names.iter().filter(|p| p.starts_with(&asked)).cloned().collect();
        let kind = |path: &Path| if path == dir { GOOD.kind } else { FileKind::File };
        let known = |path: &Path| {
            names.iter().any(|name| name == path).then(|| Known { kind: kind(path), ..GOOD })
        };
        plan(&asked, &below, Path::new("/nowhere"), &known)
    }

    #[test]
    fn a_directory_is_taken_as_it_is_with_what_is_new_before_it() {
        let (_room, dir) = room();
        let take = |name: &str| Step::Take(dir.join(name), POLICY, Origin::Configuration);
        let all = planned(&dir, "").unwrap();
        let expected = [Step::Release(dir.join("gone")), take("sub/new"), take("sub"), take("old")];
        assert_eq!(all[..4], expected);
        assert_eq!(all[4], Step::Take(dir.clone(), POLICY, Origin::Configuration));
        assert_eq!(planned(&dir, "sub/new").unwrap(), [take("sub/new"), take("sub")]);
        assert_eq!(planned(&dir, "gone").unwrap(), [Step::Release(dir.join("gone"))]);
    }

    #[test]
    fn what_was_never_there_and_what_is_gone_altogether_is_not_accepted() {
        let (_room, dir) = room();
        assert!(planned(&dir, "typo").unwrap_err().contains("does not exist"));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(planned(&dir, "").unwrap_err(), GONE);
    }
}

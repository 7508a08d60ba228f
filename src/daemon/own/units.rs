//! The units that start steadfast: where the service manager looks for them, their drop-ins, and
//! the links that enable them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use inotify::{Inotify, WatchMask, Watches};

/// Where the service manager looks for units.
const UNIT_DIRS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/local/share/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Tells when something comes into a directory of units, or goes.
#[derive(Debug)]
pub(super) struct Bell(Inotify);

impl Bell {
    /// It rings for no directory yet: see [`watched_units`].
    pub(super) fn new() -> io::Result<Self> {
        Inotify::init().map(Self)
    }

    /// Readable once it has rung.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// What has it ring.
    pub(super) fn watches(&self) -> Watches {
        self.0.watches()
    }

    /// Whether it has, since the last call.
    pub(super) fn has_rung(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let mut rung = false;
        while self.0.read_events(&mut buffer).is_ok_and(|mut events| events.next().is_some()) {
            rung = true;
        }
        rung
    }
}

/// Our units, and whether the bell rings for whatever comes or goes from here on.
pub(super) fn watched_units(watches: Option<Watches>) -> (BTreeSet<PathBuf>, bool) {
    let Some(mut watches) = watches else { return (units().collect(), false) };
    let come_or_go = WatchMask::CREATE | WatchMask::DELETE | WatchMask::MOVE | WatchMask::ONLYDIR;
    let mut all = true;
    let dirs = unit_dirs(|dir| all &= watches.add(dir, come_or_go).is_ok());
    (units_in(dirs).collect(), all)
}

/// The directories of units, and those in them of drop-ins for ours and of what is enabled. Each
/// is given to `watch` before it is looked into.
fn unit_dirs(mut watch: impl FnMut(&Path)) -> Vec<PathBuf> {
    let tops: BTreeSet<PathBuf> =
        UNIT_DIRS.iter().filter_map(|dir| Path::new(dir).canonicalize().ok()).collect();
    tops.iter().for_each(|dir| watch(dir));
    let below = tops.iter().flat_map(|top| entries(top));
    let below: Vec<_> = below.filter(|dir| may_hold_ours(dir) && dir.is_dir()).collect();
    below.iter().for_each(|dir| watch(dir));
    tops.into_iter().chain(below).collect()
}

/// Whether the name of this directory below one of units lets it hold something of ours.
fn may_hold_ours(dir: &Path) -> bool {
    match dir.extension().and_then(OsStr::to_str) {
        Some("d") => is_ours(dir),
        Some("wants" | "requires") => true,
        _ => false,
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Our units, their drop-ins, and the links that enable them.
pub(super) fn units() -> impl Iterator<Item = PathBuf> {
    units_in(unit_dirs(|_| ()))
}

fn units_in(dirs: Vec<PathBuf>) -> impl Iterator<Item = PathBuf> {
    let all = dirs.into_iter().flat_map(|dir| entries(&dir));
    all.filter(|path| is_unit(path) && path.symlink_metadata().is_ok_and(|m| !m.is_dir()))
}

fn is_ours(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"steadfast"))
}

/// Whether a unit of ours, a drop-in for one or a link that enables one has this path.
pub(super) fn is_unit(path: &Path) -> bool {
    let Some(dir) = path.parent() else { return false };
    let top = if may_hold_ours(dir) { dir.parent().unwrap_or(dir) } else { dir };
    let fits = match path.extension().and_then(OsStr::to_str) {
        Some("conf") => top != dir && is_ours(dir),
        Some("service" | "socket" | "timer") => is_ours(path),
        _ => false,
    };
    let is_top = |known: &Path| known == top || known.canonicalize().is_ok_and(|real| real == top);
    fits && UNIT_DIRS.iter().any(|known| is_top(Path::new(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_drop_ins_and_what_enables_them_are_ours_and_nothing_else_is() {
        for ours in [
            "/etc/systemd/system/steadfast.service",
            "/etc/systemd/system/steadfast-audit.timer",
            "/etc/systemd/system/steadfast.service.d/more.conf",
            "/etc/systemd/system/multi-user.target.wants/steadfast.service",
            "/usr/lib/systemd/system/steadfast.socket",
        ] {
            assert!(is_unit(Path::new(ours)), "{ours}");
        }
        for other in [
            "/etc/systemd/system/sshd.service",
            "/etc/systemd/system/sshd.service.d/steadfast.conf",
            "/etc/systemd/system/steadfast.service.d",
            "/etc/systemd/system/steadfast.conf",
            "/srv/steadfast.service",
            "/srv/steadfast.service.d/more.conf",
            "/etc/steadfast/steadfast.toml",
            "/",
        ] {
            assert!(!is_unit(Path::new(other)), "{other}");
        }
    }
}

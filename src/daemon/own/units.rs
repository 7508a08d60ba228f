//! The units that start steadfast: where the service manager looks for them, their drop-ins, and
//! the links that enable them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where the service manager looks for units.
const UNIT_DIRS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/local/share/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

pub(super) fn time_of(dir: &Path) -> Option<SystemTime> {
    dir.metadata().ok()?.modified().ok()
}

/// The directories of units, and those in them of drop-ins for ours and of what is enabled, with
/// their times.
pub(super) fn unit_dirs() -> Vec<(PathBuf, SystemTime)> {
    let tops: BTreeSet<PathBuf> =
        UNIT_DIRS.iter().filter_map(|dir| Path::new(dir).canonicalize().ok()).collect();
    let below: Vec<PathBuf> = tops.iter().flat_map(|top| entries(top)).collect();
    let below = below.into_iter().filter(|dir| may_hold_ours(dir) && dir.is_dir());
    tops.iter()
        .cloned()
        .chain(below)
        .filter_map(|dir| Some((time_of(&dir)?, dir)))
        .map(|(at, dir)| (dir, at))
        .collect()
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
    let all = unit_dirs().into_iter().flat_map(|(dir, _)| entries(&dir));
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

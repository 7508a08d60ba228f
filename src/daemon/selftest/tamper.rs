//! The tamperer's side of the self-test, in a process of its own: the daemon pays no heed to what
//! it does itself. One thread, one deed, no shell.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::canary;
use crate::selftest::{Route, Tampering};
use crate::sys::{flags, open, tampering as by};

/// What is written.
const MARK: &[u8] = b"tampered with by the self-test\n";
/// A descriptor is old when the guard no longer expects anything of whoever opened it: a second,
/// and until the next sweep.
const OLD: Duration = Duration::from_millis(2500);

/// Something that has to stay open until the tamperer is told to end.
pub type Held = Option<OwnedFd>;

/// Tampers with the canary at `path` by `route`. Refuses whatever is no canary.
#[must_use]
pub fn tamper(route: Route, path: &Path) -> (Tampering, Held) {
    if !canary::is_canary(path) {
        return (Tampering::Failed("only a canary is tampered with".into()), None);
    }
    let begun = Cell::new(0);
    let done = act(route, path, &|| begun.set(monotonic()));
    match done {
        Ok(held) => (Tampering::Done(begun.get()), held),
        Err(error) => (refused(route, &error), None),
    }
}

/// The monotonic clock, nanoseconds.
pub(super) fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec).saturating_mul(1_000_000_000).saturating_add(part(now.tv_nsec))
}

fn act(route: Route, path: &Path, begun: &dyn Fn()) -> io::Result<Held> {
    let nothing = |()| None;
    match route {
        Route::Setflags => by::clear_by_setflags(reading(path)?.as_fd(), begun).map(nothing),
        Route::Fssetxattr => by::clear_by_fssetxattr(reading(path)?.as_fd(), begun).map(nothing),
        Route::FileSetattr => {
            let dir = open::open_dir(path.parent().unwrap_or(Path::new("/")))?;
            let held = open::open_path_at(dir.as_fd(), path.file_name().unwrap_or_default())?;
            by::clear_by_file_setattr(held.as_fd(), begun).map(nothing)
        }
        Route::OldDescriptor => {
            let file = reading(path)?;
            std::thread::sleep(OLD);
            by::clear_by_setflags(file.as_fd(), begun)?;
            Ok(Some(file.into()))
        }
        Route::Write | Route::ShortLived => {
            let file = writing(path)?;
            begun();
            file.write_all_at(MARK, 0).map(nothing)
        }
        Route::Mapping => by::write_mapped(writing(path)?.as_fd(), MARK, begun).map(nothing),
        Route::Truncate => {
            begun();
            Ok(nix::unistd::truncate(path, 3).map(nothing)?)
        }
        Route::RenameOver => {
            let other = canary::other(path);
            fs::write(&other, MARK)?;
            begun();
            fs::rename(&other, path).map(nothing)
        }
        Route::Unlink => {
            begun();
            fs::remove_file(path).map(nothing)
        }
        Route::Metadata => {
            begun();
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map(nothing)
        }
    }
}

fn reading(path: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW).open(path)
}

fn writing(path: &Path) -> io::Result<File> {
    let options = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    File::options().read(true).write(true).custom_flags(options).open(path)
}

/// Whether nobody could have done it, or only we could not.
fn refused(route: Route, error: &io::Error) -> Tampering {
    let lacks = error.raw_os_error() == Some(libc::ENOSYS);
    if route == Route::FileSetattr && lacks {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        return match has_file_setattr(&release) {
            false => Tampering::Absent("this kernel has no file_setattr; Linux 6.17 does".into()),
            true => Tampering::NotPossible("a filter keeps the daemon from file_setattr".into()),
        };
    }
    if route.clears_the_bit() && flags::is_unsupported(error) {
        return Tampering::NotPossible(format!(
            "the filesystem of the state directory has no such flags: {error}"
        ));
    }
    Tampering::Failed(error.to_string())
}

/// Since Linux 6.17. What cannot be read counts as new.
fn has_file_setattr(release: &str) -> bool {
    let mut numbers = release.split('.').map_while(|part| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) >= (6, 17),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_old_kernel_has_no_file_setattr() {
        for old in ["6.1.0-18-amd64", "5.15.0", "6.16.9"] {
            assert!(!has_file_setattr(old), "{old}");
        }
        for new in ["6.17.0", "6.18.2+deb", "7.0-rc1", "", "strange"] {
            assert!(has_file_setattr(new), "{new}");
        }
    }

    #[test]
    fn what_is_no_canary_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("locked");
        fs::write(&path, "mine").unwrap();
        for route in Route::ALL {
            assert!(matches!(tamper(route, &path).0, Tampering::Failed(_)));
        }
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

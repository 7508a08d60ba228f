//! The socket file: made, given its mode and group, and taken away again. Or had from the service
//! manager, which keeps it while no daemon runs, so that no client is refused.

use std::fs::Metadata;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nix::unistd::{Gid, Group};

use super::ControlError;
use crate::config::SOCKET_PATH_MAX;

/// The group whose members may read the status.
const GROUP: &str = "steadfast";

/// Device and inode, and when it was made: the number may be used again at once.
type Identity = (u64, u64, Option<SystemTime>);

fn identity_of(found: &Metadata) -> Identity {
    (found.dev(), found.ino(), found.created().ok())
}

/// The name in the filesystem; dropping it removes the name if it is still ours.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// The file, and whether it goes with us.
    file: Mutex<(Identity, bool)>,
    group: Option<u32>,
}

impl Socket {
    /// Takes the socket that was `handed` over if it is the one at `path`, or makes one there.
    pub fn have(
        path: &Path,
        handed: Option<OwnedFd>,
    ) -> Result<(Self, UnixListener), ControlError> {
        let Some(handed) = handed else { return Self::bind(path) };
        let listener = UnixListener::from(handed);
        let address = listener.local_addr().ok();
        let theirs = address.as_ref().and_then(|address| address.as_pathname());
        if theirs != Some(path) {
            tracing::warn!(
                "the service manager's control socket is not at {}, where the configuration wants \
                 it: set ListenStream= of steadfast.socket to the same path",
                crate::text::escape_path(path)
            );
            return Self::bind(path);
        }
        let refused = |source| ControlError::Socket { path: path.to_owned(), source };
        listener.set_nonblocking(true).map_err(refused)?;
        let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
        let file = Mutex::new((adorn(path, group).map_err(refused)?, false));
        let group = group.map(Gid::as_raw);
        Ok((Self { path: path.to_owned(), file, group }, listener))
    }

    /// Binds `path`. A socket that nobody answers on is left over and goes; anything else that
    /// has the name stays.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), ControlError> {
        let (identity, group, listener) = make(path)?;
        let file = Mutex::new((identity, true));
        Ok((Self { path: path.to_owned(), file, group: group.map(Gid::as_raw) }, listener))
    }

    /// Where somebody took the name away, nobody can talk to the daemon any more: a new socket
    /// under it. `None` where it is as it should be.
    pub fn renewed(&self) -> Option<Result<UnixListener, ControlError>> {
        if self.is_in_place() {
            return None;
        }
        Some(make(&self.path).map(|(identity, _, listener)| {
            *self.file() = (identity, true);
            listener
        }))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn is_in_place(&self) -> bool {
        let identity = self.file().0;
        self.path.symlink_metadata().is_ok_and(|found| identity_of(&found) == identity)
    }

    fn file(&self) -> MutexGuard<'_, (Identity, bool)> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the group that may read.
    pub fn group(&self) -> Option<u32> {
        self.group
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.file().1 && self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket. See [`Socket::bind`].
fn make(path: &Path) -> Result<(Identity, Option<Gid>, UnixListener), ControlError> {
    if path.as_os_str().as_bytes().len() > SOCKET_PATH_MAX {
        return Err(ControlError::TooLong(path.to_owned()));
    }
    let refused = |source| ControlError::Socket { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(refused)?;
    }
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(refused)?;
    let group = Group::from_name(GROUP).ok().flatten().map(|group| group.gid);
    let identity = adorn(path, group).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok((identity, group, listener))
}

/// Removes a socket that was left over.
fn clear(path: &Path) -> Result<(), ControlError> {
    let refused = |source| ControlError::Socket { path: path.to_owned(), source };
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ControlError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(refused)
        }
        Ok(_) => Err(ControlError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(ControlError::InUse(path.to_owned()))
        }
        Err(error) => Err(refused(error)),
    }
}

/// Gives the socket its mode and group. Until then the umask decides who can connect, and the
/// credentials of each peer decide who gets an answer.
fn adorn(path: &Path, group: Option<Gid>) -> io::Result<Identity> {
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    if let Some(group) = group {
        nix::unistd::chown(path, None, Some(group))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    path.symlink_metadata().map(|found| identity_of(&found))
}

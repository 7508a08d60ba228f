//! The socket file: made, given its mode and group, and taken away again. Or had from the service
//! manager, which keeps it while no daemon runs, so that no client is refused.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group};

use super::ControlError;
use crate::config::SOCKET_PATH_MAX;

/// The group whose members may read the status.
const GROUP: &str = "steadfast";

/// The name in the filesystem; dropping it removes the name if it is still ours.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// The file, if it goes with us.
    identity: Option<(u64, u64)>,
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
        adorn(path, group).map_err(refused)?;
        let group = group.map(Gid::as_raw);
        Ok((Self { path: path.to_owned(), identity: None, group }, listener))
    }

    /// Binds `path`. A socket that nobody answers on is left over and goes; anything else that
    /// has the name stays.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener), ControlError> {
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
        let identity = Some(adorn(path, group).map_err(refused)?);
        listener.set_nonblocking(true).map_err(refused)?;
        Ok((Self { path: path.to_owned(), identity, group: group.map(Gid::as_raw) }, listener))
    }

    /// The id of the group that may read.
    pub fn group(&self) -> Option<u32> {
        self.group
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = self
            .path
            .symlink_metadata()
            .is_ok_and(|found| Some((found.dev(), found.ino())) == self.identity);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
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
fn adorn(path: &Path, group: Option<Gid>) -> io::Result<(u64, u64)> {
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    if let Some(group) = group {
        nix::unistd::chown(path, None, Some(group))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    let metadata = path.symlink_metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

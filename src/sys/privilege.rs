//! Giving up what a process that talks to the network has no need of.

use std::io;

use nix::unistd::{Gid, Uid, User};
use rustix::process::{Resource, Rlimit};

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// A system call refused.
    #[error("cannot give up root's privileges: {0}")]
    Refused(#[from] io::Error),
    /// The system calls succeeded, and yet root can be had again.
    #[error("root's privileges were given up, but could be regained")]
    Regainable,
}

impl From<nix::Error> for PrivilegeError {
    fn from(error: nix::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// The user and group ids of `nobody`; the kernel's overflow ids where there is none.
#[must_use]
pub fn nobody() -> (u32, u32) {
    match User::from_name("nobody") {
        Ok(Some(user)) if !user.uid.is_root() => (user.uid.as_raw(), user.gid.as_raw()),
        _ => (65534, 65534),
    }
}

/// Becomes the user `uid` with the one group `gid`, for good: every thread, with no way back
/// (setresuid(2), setgroups(2)). Leaves the process not dumpable, so that another process of
/// the same user can neither trace it nor take its descriptors.
pub fn become_user(uid: u32, gid: u32) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setgroups(&[])?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    let users = nix::unistd::getresuid()?;
    let groups = nix::unistd::getresgid()?;
    let changed = [users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3]
        && nix::unistd::getgroups()?.is_empty();
    let root = Uid::from_raw(0);
    let no_way_back =
        nix::unistd::setuid(root).is_err() && nix::unistd::setgid(Gid::from_raw(0)).is_err();
    if !changed || !no_way_back {
        return Err(PrivilegeError::Regainable);
    }
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}

/// From now on no program that this thread, or one that it starts, runs gains privileges by
/// its set-user-id bit or its file capabilities (`PR_SET_NO_NEW_PRIVS`, prctl(2)).
pub fn forbid_new_privileges() -> Result<(), PrivilegeError> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Limits what this process can allocate to `bytes`, and forbids core dumps, which would hold
/// what it knows (setrlimit(2)).
pub fn limit_memory(bytes: u64) -> Result<(), PrivilegeError> {
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    rustix::process::setrlimit(Resource::Data, limit(bytes)).map_err(io::Error::from)?;
    rustix::process::setrlimit(Resource::Core, limit(0)).map_err(io::Error::from)?;
    Ok(())
}

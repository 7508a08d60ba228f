//! The descriptors that the service manager hands over at the start (`LISTEN_FDS`).

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// They are there once, for the whole process.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Each with its name, as the manager gave it. Nothing the second time, and nothing where
/// there is no manager.
#[must_use]
pub fn descriptors() -> Vec<(String, OwnedFd)> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let Ok(handed) = sd_notify::listen_fds_with_names() else { return Vec::new() };
    handed
        // SAFETY: the manager opened them for this process, which is told by its pid, before it
        // began; nobody else here knows of them, and this is done once.
        .map(|(fd, name)| (name, unsafe { OwnedFd::from_raw_fd(fd) }))
        .collect()
}

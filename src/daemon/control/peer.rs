//! Who is at the other end.

use std::io::Read;

/// What a peer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rights {
    /// Nothing at all.
    Nothing,
    /// Ask for liveness, readiness and metrics: everybody who reaches the health address.
    Health,
    /// Read everything.
    Read,
    /// Change something.
    Change,
}

/// The rights of the process behind a unix socket's credentials. `readers` is the group that
/// may read.
pub(super) fn rights(uid: u32, gid: u32, pid: Option<i32>, readers: Option<u32>) -> Rights {
    let Some(readers) = readers.filter(|_| uid != 0) else {
        return if uid == 0 { Rights::Change } else { Rights::Nothing };
    };
    if gid == readers || pid.is_some_and(|pid| supplementary(pid).contains(&readers)) {
        Rights::Read
    } else {
        Rights::Nothing
    }
}

/// The supplementary groups of `pid`.
///
/// The pid may have been used again since it connected. That is bearable: connecting already
/// took membership, by the socket's mode, and reading is all that can be won.
fn supplementary(pid: i32) -> Vec<u32> {
    let Ok(file) = std::fs::File::open(format!("/proc/{pid}/status")) else { return Vec::new() };
    let mut status = String::new();
    if file.take(64 * 1024).read_to_string(&mut status).is_err() {
        return Vec::new();
    }
    status
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .map(|groups| groups.split_whitespace().filter_map(|group| group.parse().ok()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_change_members_may_read_and_others_nothing() {
        assert_eq!(rights(0, 0, None, None), Rights::Change);
        assert_eq!(rights(0, 0, None, Some(900)), Rights::Change);
        assert_eq!(rights(33, 900, None, Some(900)), Rights::Read);
        assert_eq!(rights(33, 33, None, Some(900)), Rights::Nothing);
        assert_eq!(rights(33, 0, None, None), Rights::Nothing);
        // A pid that cannot exist.
        assert_eq!(rights(33, 33, Some(i32::MAX), Some(900)), Rights::Nothing);
    }
}

//! The names of local users.
//!
//! `/etc/passwd` is read here and not by the C library, because the name service may ask a
//! server, and never by the permission thread, because `/etc/passwd` may be protected itself:
//! opening it there would wait for the very thread that opens it. So [`name`] only looks at
//! what the last [`refresh`] found.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::sync::{LazyLock, RwLock};

use crate::judge::FileTime;

const PASSWD: &str = "/etc/passwd";
/// More than any local file has; a bound for a file that somebody has blown up.
const LIMIT: u64 = 4 << 20;

#[derive(Default)]
struct Users {
    names: HashMap<u32, String>,
    /// Inode, size and time of the file they were read from.
    read_from: Option<(u64, u64, FileTime)>,
}

static USERS: LazyLock<RwLock<Users>> = LazyLock::new(RwLock::default);

/// The name of the user, escaped, as of the last [`refresh`].
#[must_use]
pub fn name(uid: u32) -> Option<String> {
    // A poisoned lock holds a complete table all the same: it is replaced as a whole.
    USERS.read().unwrap_or_else(|broken| broken.into_inner()).names.get(&uid).cloned()
}

/// Reads `/etc/passwd` if it has changed since the last time. Without it, what was known stays.
///
/// Never on the permission thread.
pub fn refresh() {
    let Ok(stat) = crate::sys::stat::stat(Path::new(PASSWD)) else { return };
    let version = Some((stat.ino, stat.size, stat.ctime));
    if USERS.read().unwrap_or_else(|broken| broken.into_inner()).read_from == version {
        return;
    }
    let Ok(text) = read() else { return };
    let users = Users { names: parse(&text), read_from: version };
    *USERS.write().unwrap_or_else(|broken| broken.into_inner()) = users;
}

fn read() -> std::io::Result<Vec<u8>> {
    let dir = crate::sys::open::open_dir(Path::new("/etc"))?;
    let file = crate::sys::open::open_read_at(std::os::fd::AsFd::as_fd(&dir), "passwd".as_ref())?;
    let mut text = Vec::new();
    std::fs::File::from(file).take(LIMIT).read_to_end(&mut text)?;
    Ok(text)
}

/// `name:password:uid:…`, a line each. The first name of a uid is the one that counts.
fn parse(text: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(uid)) = (fields.next(), fields.nth(1)) else { continue };
        let uid = str::from_utf8(uid).ok().and_then(|digits| digits.parse().ok());
        if let (false, Some(uid)) = (name.is_empty(), uid) {
            names.entry(uid).or_insert_with(|| crate::text::escape(name));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_lines_that_make_no_sense_are_passed_over() {
        let text = b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0\n\n# x\n+nis\n:x:5:5\n\
            bad:x:-1:\nbig:x:4294967296:\nod\x1bd:x:7:7";
        let names = parse(text);
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&7).map(String::as_str), Some("od\\x1bd"));
        assert_eq!(names.len(), 2);
    }

    #[test]
    fn root_has_a_name_on_this_machine() {
        refresh();
        assert_eq!(name(0).as_deref(), Some("root"));
        assert_eq!(name(4_294_967_294), None);
    }
}

//! What a process has open, from `/proc`. Touches no file anywhere else.

use super::procfs::Process;

/// Whether the process `pid` holds a descriptor of an inode with this number, on whatever
/// filesystem; and if it may write through it.
#[must_use]
pub fn holds(pid: u32, ino: u64) -> Option<bool> {
    let mut found = None;
    held(pid, |number, writable| {
        if number == ino {
            found = Some(found == Some(true) || writable);
        }
    });
    found
}

/// Whether the process can write to an inode with this number, through a descriptor or a mapping.
#[must_use]
pub fn can_write(pid: u32, start_time: u64, ino: u64) -> bool {
    let maps = || std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
    let can = holds(pid, ino) == Some(true) || maps_to_write(&maps(), ino);
    can && Process::open(pid).and_then(|process| process.start_time()) == Some(start_time)
}

/// `from-to rw-s offset device inode path`
fn maps_to_write(maps: &[u8], ino: u64) -> bool {
    maps.split(|byte| *byte == b'\n').any(|line| {
        let mut words = line.split(|byte| *byte == b' ').skip(1);
        let shared =
            words.next().is_some_and(|how| how.get(1) == Some(&b'w') && how.ends_with(b"s"));
        let number = words.nth(2).and_then(|word| str::from_utf8(word).ok()?.parse::<u64>().ok());
        shared && number == Some(ino)
    })
}

/// Calls `each` with the inode number of each descriptor of the process, and whether it can be
/// written through.
pub fn held(pid: u32, mut each: impl FnMut(u64, bool)) {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return };
    for entry in entries.flatten() {
        let Ok(info) = std::fs::read_to_string(entry.path()) else { continue };
        let field = |name| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let Some(ino) = field("ino:").and_then(|ino| ino.parse().ok()) else { continue };
        let flags = field("flags:").and_then(|flags| u32::from_str_radix(flags, 8).ok());
        each(ino, flags.is_none_or(|flags| flags & libc::O_ACCMODE.cast_unsigned() != 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_through_which_one_can_write_is_told_from_others() {
        let maps = b"7f00-7f01 rw-p 00000000 fe:00 77                         /srv/f\n\
            7f01-7f02 r--s 00000000 fe:00 77                         /srv/f\n\
            7f02-7f03 rw-s 00001000 00:1a 78                         /srv/g\n\
            7f03-7f04 rw-p 00000000 00:00 0 \n7f04 rw-s\n\n";
        assert!(maps_to_write(maps, 78));
        assert!(!maps_to_write(maps, 77) && !maps_to_write(maps, 0));
    }
}

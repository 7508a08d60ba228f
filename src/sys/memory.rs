//! Giving back memory that a start has used and the guarding does not need.

use std::fs;
use std::ops::Range;

/// From this size on, what is allocated is given back to the system as soon as it is freed.
const LARGE: libc::c_int = 128 << 10;

/// Has the allocator keep no large pieces for later: a start needs many, and nothing after it does.
pub fn keep_little() {
    // SAFETY: it sets a number of the allocator's, and fails where that does not have it.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// Gives back what was freed, and the pages of the program that are not in use just now. What is
/// used again is mapped again, from the page cache.
pub fn give_back() {
    // SAFETY: it takes the locks of the allocator and gives back pages that nobody has.
    unsafe { libc::malloc_trim(0) };
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for code in maps.lines().filter_map(code) {
        let at = std::ptr::without_provenance_mut(code.start);
        // SAFETY: the pages are those of a file, executable and never written to, so whoever
        // touches them next gets the same from the file.
        unsafe { libc::madvise(at, code.len(), libc::MADV_DONTNEED) };
    }
}

/// The addresses of a mapping that has code of a file in it, by a line of `/proc/self/maps`.
fn code(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, access) = (fields.next()?, fields.next()?);
    let is_file = fields.nth(3)?.starts_with('/');
    let (start, end) = addresses.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    (access == "r-xp" && is_file).then_some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_given_back() {
        let lines = [
            ("5f00-6000 r-xp 002cc000 fe:00 2203661    /usr/bin/steadfast", Some(0x5f00..0x6000)),
            ("5f00-6000 r--p 00c94000 fe:00 2203661    /usr/bin/steadfast", None),
            ("5f00-6000 rw-p 00000000 00:00 0          [heap]", None),
            ("7fff-8000 r-xp 00000000 00:00 0          [vdso]", None),
            ("7ff6-7ff7 r-xp 00000000 00:00 0 ", None),
            ("", None),
        ];
        for (line, expected) in lines {
            assert_eq!(code(line), expected, "{line}");
        }
    }

    #[test]
    fn everything_still_works_when_memory_was_given_back() {
        keep_little();
        let kept: Vec<u64> = (0..100_000).collect();
        drop(vec![1_u8; 64 << 20]);
        give_back();
        assert_eq!(kept.iter().sum::<u64>(), 4_999_950_000);
    }
}

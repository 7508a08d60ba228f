//! Giving back memory that a start has used and the guarding does not need.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// From this size on, what is allocated is given back to the system as soon as it is freed.
const LARGE: libc::c_int = 128 << 10;

/// Has the allocator keep no large pieces for later: a start needs many, and nothing after it does.
pub fn keep_little() {
    // SAFETY: it sets a number of the allocator's, and fails where that does not have it.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
}

/// So much is worth to be given back.
const MUCH: usize = 1 << 20;

/// What the process had of its own when [`give_back_again`] last gave some back; 0 before.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Gives back the first time, and then whenever there is much more than was left the last time:
/// now and then there is something to do for all files at once, and little of that stays.
pub fn give_back_again() {
    if own() > KEPT.load(Ordering::Relaxed).saturating_add(MUCH) {
        give_back();
        KEPT.store(own(), Ordering::Relaxed);
    }
}

/// What is resident besides the pages of files, in bytes.
fn own() -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok());
    number.unwrap_or(0_usize).saturating_mul(1024)
}

/// Gives back what was freed, and the pages of the program that were needed so far. What is used
/// again is mapped again, from the page cache.
pub fn give_back() {
    // SAFETY: it takes the locks of the allocator and gives back pages that nobody has.
    unsafe { libc::malloc_trim(0) };
    let maps = fs::read_to_string("/proc/self/smaps").unwrap_or_default();
    for clean in clean(&maps) {
        let at = std::ptr::without_provenance_mut(clean.start);
        // SAFETY: the pages are those of a file, cannot be written to and never were, so whoever
        // touches them next gets the same from the file.
        unsafe { libc::madvise(at, clean.len(), libc::MADV_DONTNEED) };
    }
}

/// Where a file is mapped that nobody can write to by that, and of which no page was changed, by
/// what `/proc/self/smaps` says.
fn clean(maps: &str) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut last = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        match fields.next() {
            Some("Anonymous:") if fields.next() == Some("0") => all.extend(last.take()),
            Some(name) if !name.ends_with(':') => last = unwritable(line),
            _ => {}
        }
    }
    all
}

/// The addresses in the first line of a mapping, if it is of a file and cannot be written to.
fn unwritable(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, access) = (fields.next()?, fields.next()?);
    let is_file = fields.nth(3)?.starts_with('/');
    let (start, end) = addresses.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    (matches!(access, "r-xp" | "r--p") && is_file).then_some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_given_back() {
        let program = "/usr/bin/steadfast";
        let maps = [
            (format!("5f00-6000 r-xp 002cc000 fe:00 2203661    {program}"), 0),
            (format!("6000-6100 r--p 00000000 fe:00 2203661    {program} (deleted)"), 0),
            (format!("6100-6200 r--p 00c94000 fe:00 2203661    {program}"), 4),
            (format!("6200-6300 rw-p 00c94000 fe:00 2203661    {program}"), 0),
            ("6300-6400 r--s 00c94000 fe:00 2203661    /var/lib/x".to_owned(), 0),
            ("6400-6500 rw-p 00000000 00:00 0          [heap]".to_owned(), 0),
            ("7ff6-7ff7 r-xp 00000000 00:00 0 ".to_owned(), 0),
            ("7fff-8000 r-xp 00000000 00:00 0          [vdso]".to_owned(), 0),
        ];
        let text: String = maps
            .iter()
            .map(|(line, changed)| {
                format!("{line}\nRss: 8 kB\nAnonymous: {changed} kB\nVmFlags: rd ex mr\n")
            })
            .collect();
        assert_eq!(clean(&text), [0x5f00..0x6000, 0x6000..0x6100]);
        assert!(clean("rubbish\nAnonymous: 0 kB\n\n-\n").is_empty());
    }

    #[test]
    fn everything_still_works_when_memory_was_given_back() {
        keep_little();
        let kept: Vec<u64> = (0..100_000).collect();
        drop(vec![1_u8; 64 << 20]);
        give_back();
        give_back_again();
        assert!(own() > 0 && KEPT.load(Ordering::Relaxed) > 0);
        assert_eq!(kept.iter().sum::<u64>(), 4_999_950_000);
    }
}

//! Lines of a journal that somebody else wrote.

use std::fs::File;
use std::io::Write;

use super::chain::{Claim, Link, line_after};
use super::event::Entry;
use super::lines::{Line, Lines};
use super::{MAX_LINE, describe};

/// Takes a journal apart as `journal verify` and `events` do. What can be read can be shown and
/// written again, and what is written is believed.
pub fn fuzz(bytes: &[u8]) {
    let Ok(fd) = rustix::fs::memfd_create("journal", rustix::fs::MemfdFlags::CLOEXEC) else {
        return;
    };
    let mut file = File::from(fd);
    if file.write_all(bytes).is_err() {
        return;
    }
    let Ok(mut lines) = Lines::new(file) else { return };
    let mut head = Link::START;
    let mut read = 0;
    while let Ok(line) = lines.next() {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => continue,
            Line::Torn(_) | Line::End => break,
        };
        read += line.len();
        if let Some(claim) = Claim::read(line)
            && claim.genuine
        {
            let _ = claim.follows(head);
        }
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else { continue };
        let shown = describe(&entry.event);
        assert!(!shown.chars().any(char::is_control), "a control character is shown: {shown:?}");
        if let Ok((again, _, link)) = line_after(head, &entry.event)
            && again.len() <= MAX_LINE
        {
            let claim = Claim::read(again.trim_ascii_end());
            assert!(
                claim.is_some_and(|claim| claim.genuine && claim.follows(head)),
                "what was written is not believed: {}",
                String::from_utf8_lossy(&again)
            );
            head = link;
        }
    }
    assert!(read <= bytes.len());
}

//! Nothing can be done to the bytes of a journal that `verify` does not see.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::judge::Digest;

type Files = Vec<(String, Vec<u8>)>;

/// A state directory whose journal has lines 1 to 12 in several files, and their bytes.
static WHOLE: LazyLock<(Files, u64, Digest)> = LazyLock::new(|| {
    let room = Room::new();
    let mut journal = room.open_with(Limits { segment_bytes: 1600, segments: 100 });
    for seq in 1..=12 {
        journal.append(&[event(seq)]).unwrap();
    }
    let files = room.names().into_iter().map(|name| {
        let content = std::fs::read(room.file(&name)).unwrap();
        (name, content)
    });
    let (seq, hash) = room.baseline.journal_head().unwrap().unwrap();
    (files.collect(), seq, hash)
});

/// Whether `verify` calls these files whole.
fn is_whole(files: &[(String, Vec<u8>)]) -> bool {
    let room = Room::on(crate::sys::test::memory());
    let (_, seq, hash) = &*WHOLE;
    room.baseline.set_journal_head(*seq, *hash).unwrap();
    std::fs::create_dir(room.state().join("journal")).unwrap();
    for (name, content) in files {
        std::fs::write(room.file(name), content).unwrap();
    }
    verify(room.state()).unwrap().is_whole()
}

/// The files again, with their lines changed by `change`; newlines go with their lines.
fn with_lines_changed(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Files {
    let (files, ..) = &*WHOLE;
    let counts =
        files.iter().map(|(_, content)| content.iter().filter(|byte| **byte == b'\n').count());
    let mut lines: Vec<Vec<u8>> = files
        .iter()
        .flat_map(|(_, content)| content.split_inclusive(|byte| *byte == b'\n'))
        .map(<[u8]>::to_vec)
        .collect();
    change(&mut lines);
    let mut lines = lines.into_iter();
    let counts: Vec<usize> = counts.collect();
    let mut changed: Files = files
        .iter()
        .zip(counts)
        .map(|((name, _), count)| (name.clone(), lines.by_ref().take(count).flatten().collect()))
        .collect();
    changed.last_mut().unwrap().1.extend(lines.flatten());
    changed
}

#[test]
fn the_journal_that_the_properties_start_from_is_whole() {
    assert!(WHOLE.0.len() > 2);
    assert!(is_whole(&WHOLE.0));
    assert!(is_whole(&with_lines_changed(|_| ())));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_changed_byte_is_seen(file: prop::sample::Index, at: prop::sample::Index, flip in 1_u8..) {
        let mut files = WHOLE.0.clone();
        let content = &mut files[file.index(WHOLE.0.len())].1;
        let at = at.index(content.len());
        content[at] ^= flip;
        prop_assert!(!is_whole(&files));
    }

    #[test]
    fn any_removed_byte_is_seen(file: prop::sample::Index, at: prop::sample::Index) {
        let mut files = WHOLE.0.clone();
        let content = &mut files[file.index(WHOLE.0.len())].1;
        content.remove(at.index(content.len()));
        prop_assert!(!is_whole(&files));
    }

    #[test]
    fn any_removed_line_is_seen(at in 0_usize..12, count in 1_usize..12) {
        let files = with_lines_changed(|lines| drop(lines.drain(at..(at + count).min(12))));
        prop_assert!(!is_whole(&files));
    }

    #[test]
    fn any_two_lines_that_change_places_are_seen(a in 0_usize..12, b in 0_usize..12) {
        prop_assume!(a != b);
        prop_assert!(!is_whole(&with_lines_changed(|lines| lines.swap(a, b))));
    }

    #[test]
    fn any_repeated_line_is_seen(a in 0_usize..12, b in 0_usize..=12) {
        prop_assert!(!is_whole(&with_lines_changed(|lines| lines.insert(b, lines[a].clone()))));
    }

    #[test]
    fn any_cut_is_seen(file: prop::sample::Index, at: prop::sample::Index) {
        let mut files = WHOLE.0.clone();
        let content = &mut files[file.index(WHOLE.0.len())].1;
        content.truncate(at.index(content.len()));
        prop_assert!(!is_whole(&files));
    }
}

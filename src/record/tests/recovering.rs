use super::*;

fn rewind_head(room: &Room, seq: u64) {
    let entry = read(room.state(), Filter::default()).unwrap().nth(seq as usize - 1);
    let hash = crate::judge::Digest::parse(&entry.unwrap().unwrap().hash).unwrap();
    room.baseline.set_journal_head(seq, hash).unwrap();
}

#[test]
fn half_a_line_that_a_crash_left_is_cut_off_and_said() {
    let room = Room::with_lines(3);
    let whole = std::fs::read(room.file(CURRENT)).unwrap();
    room.tamper(CURRENT, |content| content.extend_from_slice(&whole[..100]));
    let verdict = verify(room.state()).unwrap();
    assert!(verdict.is_whole() && verdict.unfinished_bytes == 100, "{verdict:?}");

    let (mut journal, recovery) = room.open();
    assert_eq!(recovery.findings, [Finding::Torn { bytes: 100 }]);
    assert_eq!(std::fs::read(room.file(CURRENT)).unwrap(), whole);
    assert!(room.is_append_only(CURRENT));
    journal.append(&[event(4)]).unwrap();
    assert!(verify(room.state()).unwrap().is_whole());
}

#[test]
fn half_of_the_very_first_line_is_cut_off_too() {
    let room = Room::new();
    drop(room.open());
    room.tamper(CURRENT, |content| content.extend_from_slice(b"{\"seq\":1,"));
    let (mut journal, recovery) = room.open();
    assert_eq!(recovery.findings, [Finding::Torn { bytes: 9 }]);
    journal.append(&[event(1)]).unwrap();
    assert!(verify(room.state()).unwrap().is_whole());
}

#[test]
fn lines_that_the_baseline_had_not_heard_of_are_taken_in() {
    let room = Room::with_lines(5);
    rewind_head(&room, 2);
    assert!(verify(room.state()).unwrap().is_whole());
    let (mut journal, recovery) = room.open();
    assert_eq!(recovery.findings, [Finding::Adopted { lines: 3 }]);
    assert_eq!(room.baseline.journal_head().unwrap().unwrap().0, 5);
    assert_eq!(journal.append(&[event(6)]).unwrap()[0].seq, 6);
    assert!(verify(room.state()).unwrap().is_whole());
}

#[test]
fn lines_are_taken_in_across_segments() {
    let room = Room::new();
    let mut journal = room.open_with(Limits { segment_bytes: 1000, segments: 100 });
    for seq in 1..=20 {
        journal.append(&[event(seq)]).unwrap();
    }
    drop(journal);
    for known in [1, 7, 19] {
        rewind_head(&room, known);
        let (_, recovery) = room.open();
        assert_eq!(recovery.findings, [Finding::Adopted { lines: 20 - known }]);
    }
}

#[test]
fn a_crash_between_renaming_a_full_segment_and_making_the_next_loses_nothing() {
    let room = Room::with_lines(3);
    room.soften();
    std::fs::rename(room.file(CURRENT), room.file("journal-00000000000000000001.jsonl")).unwrap();
    assert_eq!(room.seqs(), [1, 2, 3]);
    let (mut journal, recovery) = room.open();
    assert_eq!(recovery, Recovery::default());
    assert!(room.is_append_only("journal-00000000000000000001.jsonl"));
    journal.append(&[event(4)]).unwrap();
    assert_eq!(room.seqs(), [1, 2, 3, 4]);
    assert!(verify(room.state()).unwrap().is_whole());
}

#[test]
fn a_crash_while_an_old_segment_is_dropped_is_finished_when_it_is_opened() {
    let room = Room::new();
    let mut journal = room.open_with(Limits { segment_bytes: 1000, segments: 100 });
    for seq in 1..=10 {
        journal.append(&[event(seq)]).unwrap();
    }
    drop(journal);
    let second = room.names()[1].clone();
    let content = std::fs::read(room.file(&second)).unwrap();
    let first: Entry =
        serde_json::from_slice(content.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let prev = crate::judge::Digest::parse(&first.prev).unwrap();
    room.baseline.set_journal_anchor(first.seq, prev).unwrap();
    assert!(verify(room.state()).unwrap().is_whole());
    let (_, recovery) = room.open();
    assert_eq!(recovery, Recovery::default());
    assert_eq!(room.names()[0], second);
    assert!(verify(room.state()).unwrap().is_whole());
}

#[test]
fn a_journal_that_was_cut_is_reported_and_never_looks_whole_again() {
    for keep in [0, 1, 2] {
        let room = Room::with_lines(3);
        room.tamper(CURRENT, |content| {
            let ends = content.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            let end = if keep == 0 { 0 } else { ends.map(|(at, _)| at + 1).nth(keep - 1).unwrap() };
            content.truncate(end);
        });
        let (mut journal, recovery) = room.open();
        assert_eq!(recovery.findings, [Finding::Cut { head: 3 }]);
        assert!(recovery.findings[0].is_tampering());
        assert_eq!(journal.append(&[event(4)]).unwrap()[0].seq, 4);
        assert!(!verify(room.state()).unwrap().is_whole());
    }
}

#[test]
fn lines_that_somebody_added_are_kept_reported_and_not_built_on() {
    let room = Room::with_lines(2);
    let forged = Room::with_lines(3);
    let lines = std::fs::read(forged.file(CURRENT)).unwrap();
    let third = lines.split_inclusive(|byte| *byte == b'\n').nth(2).unwrap();
    let mut third = third.to_vec();
    third[20] ^= 1;
    room.tamper(CURRENT, |content| content.extend_from_slice(&third));
    let (mut journal, recovery) = room.open();
    assert_eq!(recovery.findings, [Finding::Foreign { segment: CURRENT.to_owned(), line: 3 }]);
    assert_eq!(journal.append(&[event(3)]).unwrap()[0].seq, 3);
    let faults = room.faults();
    assert!(faults[0].starts_with("journal.jsonl line 3"), "{faults:?}");
    let content = std::fs::read(room.file(CURRENT)).unwrap();
    assert!(content.windows(third.len()).any(|window| window == third));
}

#[test]
fn a_journal_whose_baseline_was_lost_is_believed_and_said_to_be() {
    let room = Room::with_lines(4);
    let fresh = tempfile::tempdir().unwrap();
    let baseline = Baseline::open(fresh.path()).unwrap();
    let (mut journal, recovery) = Journal::open(room.state(), &baseline).unwrap();
    assert_eq!(recovery.findings, [Finding::Unknown { last: 4 }]);
    assert_eq!(journal.append(&[event(5)]).unwrap()[0].seq, 5);
}

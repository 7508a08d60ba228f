use super::*;

/// Line `number` of the file, from 1, without its newline.
fn line(room: &Room, number: usize) -> Vec<u8> {
    let content = std::fs::read(room.file(CURRENT)).unwrap();
    content.split(|byte| *byte == b'\n').nth(number - 1).unwrap().to_vec()
}

/// Rewrites the file's lines, newlines not included.
fn edit_lines(room: &Room, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    room.tamper(CURRENT, |content| {
        let text = content.strip_suffix(b"\n").unwrap();
        let mut lines: Vec<Vec<u8>> =
            text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        change(&mut lines);
        *content = lines.into_iter().flat_map(|line| [line, b"\n".to_vec()].concat()).collect();
    });
}

#[test]
fn an_edited_line_is_named() {
    let room = Room::with_lines(4);
    edit_lines(&room, |lines| {
        let text = String::from_utf8(lines[1].clone()).unwrap();
        lines[1] = text.replace("main.py", "main.js").into_bytes();
    });
    let wanted = "journal.jsonl line 2 (seq 2): edited, its text is not the one that was hashed";
    assert_eq!(room.faults(), [wanted]);
}

#[test]
fn a_line_that_was_edited_and_hashed_again_breaks_the_next_one() {
    let room = Room::with_lines(3);
    edit_lines(&room, |lines| {
        let first: Entry = serde_json::from_slice(&lines[0]).unwrap();
        let prev = crate::judge::Digest::parse(&first.hash).unwrap();
        let forged = event(2).about(Path::new("/innocent"));
        let link = Link { seq: 1, hash: prev };
        let (mut line, ..) = chain::line_after(link, &forged).unwrap();
        line.pop();
        lines[1] = line;
    });
    let faults = room.faults();
    assert!(
        faults[0].starts_with("journal.jsonl line 3 (seq 3): it does not follow"),
        "{faults:?}"
    );
    assert_eq!(faults.len(), 1);
}

#[test]
fn a_last_line_that_was_edited_and_hashed_again_is_not_the_one_remembered() {
    let room = Room::with_lines(2);
    edit_lines(&room, |lines| {
        let first: Entry = serde_json::from_slice(&lines[0]).unwrap();
        let prev = crate::judge::Digest::parse(&first.hash).unwrap();
        let link = Link { seq: 1, hash: prev };
        let (mut line, ..) = chain::line_after(link, &event(99)).unwrap();
        line.pop();
        lines[1] = line;
    });
    let wanted = "journal.jsonl line 2 (seq 2): another line than the baseline remembers";
    assert_eq!(room.faults(), [wanted]);
}

#[test]
fn removed_lines_are_named_wherever_they_were() {
    let room = Room::with_lines(5);
    edit_lines(&room, |lines| drop(lines.drain(1..3)));
    assert_eq!(room.faults(), ["journal.jsonl line 2 (seq 4): lines 2 to 3 are missing"]);

    let room = Room::with_lines(3);
    edit_lines(&room, |lines| drop(lines.remove(0)));
    assert_eq!(room.faults(), ["journal.jsonl line 1 (seq 2): line 1 is missing"]);

    let room = Room::with_lines(3);
    edit_lines(&room, |lines| drop(lines.pop()));
    let wanted = "journal.jsonl line 3: the journal ends here, but its last line was 3";
    assert_eq!(room.faults(), [wanted]);

    let room = Room::with_lines(3);
    room.tamper(CURRENT, Vec::clear);
    let wanted = "journal.jsonl line 1: the journal ends here, but its last line was 3";
    assert_eq!(room.faults(), [wanted]);
}

#[test]
fn swapped_and_repeated_lines_are_named() {
    let room = Room::with_lines(4);
    edit_lines(&room, |lines| lines.swap(1, 2));
    let faults = room.faults();
    assert_eq!(faults[0], "journal.jsonl line 2 (seq 3): line 2 is missing");
    assert_eq!(faults[1], "journal.jsonl line 3 (seq 2): repeated or moved, line 4 was due here");
    assert_eq!(faults.len(), 2);

    let room = Room::with_lines(3);
    let second = line(&room, 2);
    edit_lines(&room, |lines| lines.insert(2, second));
    let wanted = "journal.jsonl line 3 (seq 2): repeated or moved, line 3 was due here";
    assert_eq!(room.faults(), [wanted]);
}

#[test]
fn a_removed_segment_is_named_by_the_lines_it_held() {
    for which in [0, 1, 2] {
        let room = Room::new();
        let mut journal = room.open_with(Limits { segment_bytes: 1000, segments: 100 });
        for seq in 1..=12 {
            journal.append(&[event(seq)]).unwrap();
        }
        drop(journal);
        let names = room.names();
        let at = if which == 2 { names.len() - 1 } else { which };
        room.soften();
        std::fs::remove_file(room.file(&names[at])).unwrap();
        let faults = room.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        match which {
            0 => assert!(faults[0].contains(&names[1]) && faults[0].contains("lines 1 to ")),
            1 => assert!(faults[0].contains(&names[2]) && faults[0].contains("missing")),
            _ => assert!(faults[0].ends_with("its last line was 12")),
        }
    }
}

#[test]
fn a_planted_segment_is_found() {
    let room = Room::with_lines(2);
    let copy = std::fs::read(room.file(CURRENT)).unwrap();
    std::fs::write(room.file("journal-00000000000000000001.jsonl"), copy).unwrap();
    assert!(!verify(room.state()).unwrap().is_whole());
}

#[test]
fn a_journal_full_of_rubbish_is_counted_and_not_listed_to_the_end() {
    let room = Room::with_lines(1);
    room.tamper(CURRENT, |content| content.extend_from_slice(&b"rubbish\n".repeat(5000)));
    let verdict = verify(room.state()).unwrap();
    assert_eq!((verdict.fault_count, verdict.faults.len()), (5000, 100));
}

#[test]
fn the_verdict_names_the_head_that_can_be_kept_elsewhere() {
    let room = Room::with_lines(3);
    let last: Entry = serde_json::from_slice(&line(&room, 3)).unwrap();
    assert_eq!(verify(room.state()).unwrap().head, Some((3, last.hash)));
}

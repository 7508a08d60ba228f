use super::*;

fn all(entries: &mut Entries) -> Vec<u64> {
    entries.map(|entry| entry.unwrap().seq).collect()
}

#[test]
fn entries_are_chosen_by_path_and_time() {
    let room = Room::new();
    let (mut journal, _) = room.open();
    let about = |number, path: &str| event(number).about(Path::new(path));
    let none = Event::new(Timestamp::from_second(4).unwrap(), Kind::Started, Severity::Info);
    let events = [about(1, "/srv/a"), about(2, "/srv/a/b"), about(3, "/srv/ab"), none];
    journal.append(&events).unwrap();
    let seqs = |path: Option<&str>, since: Option<i64>| {
        let since = since.map(|at| Timestamp::from_second(at).unwrap());
        let filter = Filter { path: path.map(PathBuf::from), since };
        all(&mut read(room.state(), filter).unwrap())
    };
    assert_eq!(seqs(None, None), [1, 2, 3, 4]);
    assert_eq!(seqs(Some("/srv/a"), None), [1, 2]);
    assert_eq!(seqs(Some("/srv/a"), Some(2)), [2]);
    assert_eq!(seqs(None, Some(3)), [3, 4]);
}

#[test]
fn a_follower_sees_new_lines_across_segments_and_each_one_once() {
    let room = Room::new();
    let limits = Limits { segment_bytes: 1500, segments: 3 };
    let mut journal = room.open_with(limits);
    let mut entries = read(room.state(), Filter::default()).unwrap();
    assert!(entries.next().is_none());
    let mut seen = Vec::new();
    for seq in 1..=40 {
        journal.append(&[event(seq)]).unwrap();
        // Sometimes every line, sometimes after a segment or two.
        if seq % 7 < 4 {
            seen.extend(all(&mut entries));
        }
    }
    seen.extend(all(&mut entries));
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
}

#[test]
fn a_follower_that_sleeps_through_more_than_is_kept_goes_on_with_what_is_left() {
    let room = Room::new();
    let mut journal = room.open_with(Limits { segment_bytes: 1500, segments: 2 });
    journal.append(&[event(1)]).unwrap();
    let mut entries = read(room.state(), Filter::default()).unwrap();
    assert_eq!(all(&mut entries), [1]);
    for seq in 2..=40 {
        journal.append(&[event(seq)]).unwrap();
    }
    let kept = room.seqs();
    assert!(kept[0] > 2);
    // The file it had open was dropped, and still gives what was written to it before.
    let seen = all(&mut entries);
    assert!(seen.ends_with(&kept) && seen[0] == 2, "{seen:?}");
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(entries.next().is_none());
}

#[test]
fn a_follower_beside_a_busy_writer_misses_and_repeats_nothing() {
    let room = Room::new();
    let mut journal = room.open_with(Limits { segment_bytes: 2000, segments: 1000 });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 0..100 {
                journal.append(&[event(seq), event(seq), event(seq)]).unwrap();
            }
        });
        let mut entries = read(room.state(), Filter::default()).unwrap();
        let mut seen = Vec::new();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while seen.len() < 300 && std::time::Instant::now() < deadline {
            seen.extend(all(&mut entries));
            assert!(verify(room.state()).unwrap().is_whole());
        }
        assert_eq!(seen, (1..=300).collect::<Vec<_>>());
    });
}

#[test]
fn a_line_that_cannot_be_read_is_named_and_the_next_ones_follow() {
    let room = Room::with_lines(3);
    room.tamper(CURRENT, |content| {
        let long = vec![b'x'; MAX_LINE + 1];
        let end = content.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        content.splice(end..end, [&long[..], b"\n\x1b[31mrubbish\n"].concat());
        content.extend_from_slice(b"torn");
    });
    let found: Vec<_> = read(room.state(), Filter::default()).unwrap().collect();
    assert_eq!(found.len(), 5);
    assert_eq!(found[0].as_ref().unwrap().seq, 1);
    for (at, line) in [(1, "line 2 of"), (2, "line 3 of")] {
        let error = found[at].as_ref().unwrap_err().to_string();
        assert!(error.contains(line) && !error.contains('\x1b'), "{error}");
    }
    assert_eq!(found[4].as_ref().unwrap().seq, 3);
}

#[test]
fn where_there_is_no_journal_the_reader_is_told_so() {
    let room = Room::new();
    let error = read(room.state(), Filter::default()).err().unwrap();
    assert!(matches!(error, JournalError::Missing(_)), "{error}");
    let nothing = tempfile::tempdir().unwrap();
    let error = read(nothing.path(), Filter::default()).err().unwrap();
    assert!(matches!(error, JournalError::Baseline(BaselineError::Missing(_))), "{error}");
}

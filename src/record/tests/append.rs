use std::os::unix::fs::PermissionsExt;

use super::*;

/// Room for three lines or so.
const SMALL: Limits = Limits { segment_bytes: 1500, segments: 3 };

#[test]
fn what_was_appended_is_read_back_with_its_place_in_the_chain() {
    let room = Room::new();
    let (mut journal, recovery) = room.open();
    assert_eq!(recovery, Recovery::default());
    let first = journal.append(&[event(1), event(2)]).unwrap();
    let second = journal.append(&[event(3)]).unwrap();
    assert_eq!(journal.append(&[]).unwrap(), []);

    let all = [first, second].concat();
    let found: Result<Vec<Entry>, _> = read(room.state(), Filter::default()).unwrap().collect();
    assert_eq!(found.unwrap(), all);
    assert_eq!(all[0].prev, "0".repeat(64));
    assert_eq!(all[1].prev, all[0].hash);
    assert_eq!(all[2].prev, all[1].hash);
    assert_eq!(all[2].seq, 3);
    let head = room.baseline.journal_head().unwrap().unwrap();
    assert_eq!((head.0, head.1.to_string()), (3, all[2].hash.clone()));
    assert_eq!(journal.head(), Link { seq: head.0, hash: head.1 });
    assert!(verify(room.state()).unwrap().is_whole());
    assert!(journal.troubles().is_empty());
}

#[test]
fn the_file_is_append_only_and_its_owners_alone() {
    let room = Room::with_lines(1);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&room.file(CURRENT)), 0o600);
    assert_eq!(mode(&room.state().join("journal")), 0o700);
    assert!(room.is_append_only(CURRENT));
    assert!(std::fs::write(room.file(CURRENT), "x").is_err());
    assert!(std::fs::remove_file(room.file(CURRENT)).is_err());
}

#[test]
fn a_second_writer_is_turned_away() {
    let room = Room::new();
    let (_journal, _) = room.open();
    let other = Journal::open(room.state(), &room.baseline).err().unwrap();
    assert!(matches!(other, JournalError::Busy(_)), "{other}");
}

#[test]
fn a_full_segment_is_closed_and_the_chain_goes_on_in_the_next() {
    let room = Room::new();
    let mut journal = room.open_with(Limits { segments: 100, ..SMALL });
    for seq in 1..=20 {
        journal.append(&[event(seq)]).unwrap();
    }
    let names = room.names();
    assert!(names.len() > 3, "{names:?}");
    assert_eq!(names[0], "journal-00000000000000000001.jsonl");
    for name in &names {
        assert!(room.file(name).metadata().unwrap().len() <= SMALL.segment_bytes, "{name}");
        assert!(room.is_append_only(name), "{name}");
    }
    assert_eq!(room.seqs(), (1..=20).collect::<Vec<_>>());
    let verdict = verify(room.state()).unwrap();
    assert!(verdict.is_whole(), "{verdict:?}");
    assert_eq!((verdict.lines, verdict.segments), (20, names.len()));
    assert!(journal.troubles().is_empty());
}

#[test]
fn the_oldest_segments_are_dropped_and_the_rest_is_still_a_whole_chain() {
    let room = Room::new();
    let mut journal = room.open_with(SMALL);
    for seq in 1..=40 {
        journal.append(&[event(seq)]).unwrap();
        assert!(room.names().len() <= SMALL.segments);
        assert!(verify(room.state()).unwrap().is_whole());
    }
    let kept = room.seqs();
    assert!(kept[0] > 20 && kept.last() == Some(&40), "{kept:?}");
    assert_eq!(room.baseline.journal_anchor().unwrap().unwrap().0, kept[0]);
    drop(journal);
    let (mut journal, recovery) = room.open();
    assert_eq!(recovery, Recovery::default());
    journal.append(&[event(41)]).unwrap();
    assert!(verify(room.state()).unwrap().is_whole());
}

#[test]
fn only_one_segment_can_be_kept() {
    let room = Room::new();
    let mut journal = room.open_with(Limits { segments: 1, ..SMALL });
    for seq in 1..=10 {
        journal.append(&[event(seq)]).unwrap();
        assert_eq!(room.names(), [CURRENT]);
        assert!(verify(room.state()).unwrap().is_whole());
    }
    assert!(journal.troubles().is_empty());
}

#[test]
fn an_event_too_long_for_a_line_is_abridged_and_not_lost() {
    let room = Room::new();
    let (mut journal, _) = room.open();
    let mut monster = event(1);
    let endless = vec!["\u{1}🦀".repeat(1000); 20];
    let mut actor = crate::attribute::Actor { cmdline: endless.clone(), ..Default::default() };
    let ancestor = crate::attribute::Ancestor { cmdline: endless, ..Default::default() };
    actor.ancestry = vec![ancestor; 20];
    actor.pid = 77;
    for number in 0..50 {
        monster.before.insert(format!("{number}{}", "\u{1}".repeat(5000)), vec![1; 5000].into());
        monster.after.insert(format!("{number}"), "\u{1}".repeat(5000).into());
    }
    monster.note = Some("n".repeat(2 << 20));
    monster.others = vec![actor.clone()];
    monster.actor = Some(actor);
    let entries = journal.append(&[event(0), monster, event(2)]).unwrap();
    assert!(entries[1].event.note.as_ref().unwrap().ends_with("is abridged"));
    assert_eq!(entries[1].event.actor.as_ref().unwrap().pid, 77);
    assert_eq!(room.seqs(), [1, 2, 3]);
    assert!(verify(room.state()).unwrap().is_whole());
}

/// In a thread with its own mount namespace, so that the small filesystem goes with it.
fn with_small_filesystem(work: impl FnOnce(&Path) + Send) {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
            let (kind, size) = (Some("tmpfs"), Some("size=64k"));
            mount(kind, dir.path(), kind, MsFlags::empty(), size).unwrap();
            work(dir.path());
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_full_disk_leaves_no_part_of_a_batch_and_the_same_events_fit_later() {
    let elsewhere = tempfile::tempdir().unwrap();
    let baseline = Baseline::open(elsewhere.path()).unwrap();
    with_small_filesystem(|state| {
        let (mut journal, _) = Journal::open(state, &baseline).unwrap();
        std::fs::write(state.join("ballast"), vec![0; 40_000]).unwrap();
        let batch: Vec<Event> = (1..=20).map(event).collect();
        journal.append(&batch).unwrap();
        let path = state.join("journal").join(CURRENT);
        let error = loop {
            let whole = std::fs::read(&path).unwrap();
            if let Err(error) = journal.append(&batch) {
                assert_eq!(std::fs::read(&path).unwrap(), whole);
                break error;
            }
        };
        let JournalError::Io { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        let before = journal.head();
        assert!(journal.append(&batch).is_err());
        assert_eq!(journal.head(), before);

        std::fs::remove_file(state.join("ballast")).unwrap();
        let entries = journal.append(&batch).unwrap();
        assert_eq!(entries[0].seq, before.seq + 1);
        let found: Vec<_> = read(state, Filter::default()).unwrap().map(Result::unwrap).collect();
        assert_eq!(found.len() as u64, journal.head().seq);
        assert_eq!(found.last(), entries.last());
        assert!(journal.troubles().is_empty());
    });
}

#[test]
fn a_journal_that_is_removed_under_the_daemon_is_written_again_from_what_is_open() {
    let room = Room::new();
    let (mut journal, _) = room.open();
    journal.append(&[event(1), event(2)]).unwrap();
    room.soften();
    std::fs::remove_file(room.file(CURRENT)).unwrap();
    journal.append(&[event(3)]).unwrap();
    assert!(matches!(journal.troubles()[..], [Trouble::Replaced]));
    assert_eq!(room.seqs(), [1, 2, 3]);
    assert!(room.is_append_only(CURRENT));
    assert!(verify(room.state()).unwrap().is_whole());
}

#[test]
fn a_journal_that_was_cut_before_it_is_removed_goes_on_and_shows_the_gap() {
    let room = Room::new();
    let (mut journal, _) = room.open();
    journal.append(&[event(1), event(2)]).unwrap();
    room.tamper(CURRENT, Vec::clear);
    room.soften();
    std::fs::remove_file(room.file(CURRENT)).unwrap();
    journal.append(&[event(3)]).unwrap();
    assert!(matches!(journal.troubles()[..], [Trouble::Replaced]));
    assert_eq!(room.seqs(), [3]);
    assert_eq!(room.faults(), ["journal.jsonl line 1 (seq 3): lines 1 to 2 are missing"]);
}

#[test]
fn what_somebody_else_wrote_into_the_journal_does_not_spoil_the_next_line() {
    let room = Room::new();
    let (mut journal, _) = room.open();
    journal.append(&[event(1)]).unwrap();
    room.tamper(CURRENT, |content| content.extend_from_slice(b"half a li"));
    journal.append(&[event(2)]).unwrap();
    let troubles = journal.troubles();
    assert!(matches!(
        troubles[..],
        [Trouble::Resized { .. }, Trouble::NotAppendOnly { again: true }]
    ));
    assert!(troubles.iter().all(Trouble::is_tampering));
    assert!(room.is_append_only(CURRENT));
    assert_eq!(room.faults(), ["journal.jsonl line 2: this is not a line of the journal"]);
    journal.append(&[event(3)]).unwrap();
    assert!(journal.troubles().is_empty());
}

#[test]
fn a_pipe_in_the_place_of_the_journal_is_refused_and_does_not_block() {
    let room = Room::new();
    std::fs::create_dir(room.state().join("journal")).unwrap();
    nix::unistd::mkfifo(&room.file(CURRENT), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = Journal::open(room.state(), &room.baseline).err().unwrap();
    assert!(matches!(error, JournalError::Io { .. }), "{error}");
    assert!(read(room.state(), Filter::default()).is_err());
}

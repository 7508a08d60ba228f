use std::os::fd::AsFd;

use super::*;
use crate::config::Daemon;
use crate::daemon::scribe::keeper::Keeper;
use crate::daemon::store::Store;
use crate::daemon::wake::Mailbox;
use crate::judge::FS_APPEND;
use crate::record::Entry;
use crate::sys::flags;

/// A directory that can be removed when the test is over, whatever happened: the journal in it is
/// append-only.
struct Room(tempfile::TempDir);

impl Drop for Room {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0.path().join("state/journal")).into_iter().flatten() {
            let Ok(file) = std::fs::File::open(entry.unwrap().path()) else { continue };
            if let Ok(Some(flags)) = flags::get(file.as_fd()) {
                let _ = flags::set(file.as_fd(), flags & !FS_APPEND);
            }
        }
    }
}

/// A writer in a state directory of its own, and the notes of the lines that are on the disk.
fn writer(dir: &std::path::Path) -> (Writer, Arc<Mutex<Vec<String>>>) {
    let (state, control) = (dir.join("state"), dir.join("control.sock"));
    let store = Store::open(&Daemon { state, control, ..Daemon::default() }, "run").unwrap();
    let Store { state, baseline, vault, journal, quarantine, spool, lock, .. } = store;
    let (mailer, _mailbox) = Mailbox::new().unwrap();
    let keeper = Keeper::new(&state, lock, &baseline, vault, mailer).unwrap();
    let written = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&written);
    let on_entry = Box::new(move |entry: &Entry| {
        notes.lock().unwrap().push(entry.event.note.clone().unwrap_or_default());
    });
    let delivery = Delivery::Nobody;
    let lineage = Arc::default();
    let desk = Desk { baseline, journal, spool, quarantine, keeper, delivery, lineage, on_entry };
    let health = Health::new(crate::daemon::start::starting());
    (Writer::new(desk, health, Arc::default(), Outbox::default()), written)
}

#[test]
fn lines_that_are_too_many_are_given_up_oldest_first_counted_and_told() {
    let room = Room(tempfile::tempdir().unwrap());
    let (mut writer, written) = writer(room.0.path());
    // The disk takes nothing all the while.
    writer.failing = true;
    for number in 0..MOST_WAITING + 5 {
        let event = Event::new(Timestamp::now(), Kind::Created, Severity::Info);
        writer.line(event.noting(number.to_string()));
    }
    assert_eq!(writer.waiting.len(), MOST_WAITING);
    let page = writer.health.page();
    let row = Failure::LinesDropped.row();
    let counted = format!("steadfast_failures_total{{failure=\"{}\"}} 1", row.name);
    assert!(page.lines().any(|line| line == counted), "{page}");
    // Now it does.
    writer.write();
    writer.write();
    let written = written.lock().unwrap();
    assert_eq!(written[0], "5");
    assert_eq!(written.len(), MOST_WAITING + 2);
    assert_eq!(written[MOST_WAITING], "5 lines waited too long and were given up");
    assert!(written[MOST_WAITING + 1].contains("can be written again"));
}

#[test]
fn it_looks_around_seldom_only_where_nothing_was_to_be_written_for_a_while_and_nothing_waits() {
    let room = Room(tempfile::tempdir().unwrap());
    let (mut writer, _written) = writer(room.0.path());
    writer.round();
    assert!(!writer.is_at_rest(), "it has just begun");
    let long_ago = Instant::now().checked_sub(A_WHILE * 2).unwrap();
    let rest = |writer: &mut Writer| {
        writer.stirred = long_ago;
        writer.is_at_rest()
    };
    assert!(rest(&mut writer));
    let beat = Heartbeat { at: Timestamp::now(), except: Vec::new() };
    writer.take(Note::Heartbeat(beat), &mut Vec::new());
    assert!(writer.is_at_rest());
    let event = || Box::new(Event::new(Timestamp::now(), Kind::Created, Severity::Info));
    writer.take(Note::Event(event()), &mut Vec::new());
    assert!(!writer.is_at_rest(), "it was told something");
    assert!(!rest(&mut writer), "a line waits");
    writer.write();
    assert!(rest(&mut writer));
    writer.failing = true;
    assert!(!rest(&mut writer), "the disk took nothing");
    writer.failing = false;
    std::fs::remove_dir_all(room.0.path().join("state/quarantine")).unwrap();
    writer.stirred = long_ago;
    writer.round();
    assert!(!writer.is_at_rest(), "somebody is at the state");
}

#[test]
fn what_goes_for_room_is_what_our_own_index_says_and_nothing_where_somebody_wrote_to_that() {
    let room = Room(tempfile::tempdir().unwrap());
    let (mut writer, _written) = writer(room.0.path());
    let kept: Vec<_> = ["first", "second", "third"]
        .map(|name| {
            let from = room.0.path().join(name);
            std::fs::write(&from, name).unwrap();
            let piece = writer.desk.quarantine.take(&from, &from, name).unwrap();
            writer.desk.baseline.add_evidence(&piece).unwrap();
            piece.location
        })
        .into();
    let there = || kept.iter().map(|at| at.exists()).collect::<Vec<_>>();
    writer.make_room(room.0.path(), 1).unwrap();
    assert_eq!(there(), [false, true, true], "the oldest goes, and no more than has to");

    let database = room.0.path().join("state/baseline.db");
    rusqlite::Connection::open(database).unwrap().execute("DELETE FROM meta", []).unwrap();
    writer.make_room(room.0.path(), u64::MAX).unwrap();
    assert_eq!(there(), [false, true, true]);
}

/// What `status` would say of the state after `act`, at once and when nothing more has happened for
/// as long as that takes; and whether it is on record that all is well again.
fn said_after(act: impl Fn(&std::path::Path)) -> (String, String, bool) {
    let room = Room(crate::sys::test::disk());
    let (mut writer, written) = writer(room.0.path());
    let event = Event::new(Timestamp::now(), Kind::Started, Severity::Info);
    writer.line(event);
    writer.write();
    writer.round();
    let worry = writer.desk.keeper.worry();
    let said = || worry.lock().unwrap().clone().unwrap_or_default();
    assert_eq!(said(), "");
    act(&room.0.path().join("state"));
    writer.round();
    writer.write();
    let at_once = said();
    // What was done to something that is made again is seen by the round after.
    writer.round();
    assert_eq!(said(), at_once);
    writer.desk.keeper.worries.age(crate::daemon::scribe::worries::CALM);
    writer.round();
    writer.write();
    let well = |note: &String| note.contains("as it should be again");
    let told = written.lock().unwrap().iter().any(well);
    (at_once, said(), told)
}

fn soften(path: &std::path::Path) {
    let file = std::fs::File::open(path).unwrap();
    let now = flags::get(file.as_fd()).unwrap().unwrap_or_default();
    flags::set(file.as_fd(), now & !FS_APPEND).unwrap();
}

#[test]
fn what_was_put_right_in_the_state_is_over_after_a_while_and_that_is_on_record() {
    if !rustix::process::geteuid().is_root() {
        return crate::sys::test::skipped("it needs root to set and clear +a");
    }
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let moved = |state: &std::path::Path| {
        std::fs::rename(state.join("vault"), state.join("away")).unwrap();
    };
    let lock = |state: &std::path::Path| std::fs::remove_file(state.join("lock")).unwrap();
    let bit = |state: &std::path::Path| soften(&state.join("journal/journal.jsonl"));
    let there_and_back = |state: &std::path::Path| {
        let path = state.join("journal/journal.jsonl");
        soften(&path);
        mode(&path, 0o644);
        mode(&path, 0o600);
    };
    let acts: [&dyn Fn(&std::path::Path); 4] = [&moved, &lock, &bit, &there_and_back];
    for act in acts {
        let (at_once, later, told) = said_after(act);
        assert!(at_once.contains("somebody") && at_once.contains("find out who"), "{at_once}");
        assert!(!at_once.contains("restart"), "{at_once}");
        assert_eq!((later.as_str(), told), ("", true), "{at_once}");
    }
}

#[test]
fn what_is_lost_or_still_is_not_as_it_should_be_in_the_state_is_not_over() {
    if !rustix::process::geteuid().is_root() {
        return crate::sys::test::skipped("it needs root to set and clear +a");
    }
    let lost = |state: &std::path::Path| std::fs::remove_dir(state.join("quarantine")).unwrap();
    let edited = |state: &std::path::Path| {
        let path = state.join("journal/journal.jsonl");
        soften(&path);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"X", 20).unwrap();
    };
    let open = |state: &std::path::Path| {
        let path = state.join("journal/journal.jsonl");
        soften(&path);
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .unwrap();
    };
    let acts: [&dyn Fn(&std::path::Path); 3] = [&lost, &edited, &open];
    for act in acts {
        let (at_once, later, told) = said_after(act);
        assert!(at_once.contains("restart the daemon to clear this"), "{at_once}");
        assert!(later.contains("restart the daemon to clear this") && !told, "{later}");
    }
}

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

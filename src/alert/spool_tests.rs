use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::*;
use crate::alert::item::Stored;
use crate::record::{Event, Kind, Severity};

fn event(second: i64) -> Event {
    let time = Timestamp::from_second(second).unwrap();
    Event::new(time, Kind::ContentChanged, Severity::Warning).about(Path::new("/srv/\n\u{7f}"))
}

fn item(incident: &str, events: i64) -> Item {
    Item {
        incident: incident.into(),
        not_before: Timestamp::from_second(7).unwrap(),
        events: (0..events).map(event).collect(),
    }
}

fn stored(state: &Path, incident: &str) -> Stored {
    let items = files::open_directory(&state.join("spool/items")).unwrap();
    read_stored(items, Some(incident)).unwrap().unwrap()
}

fn write_receipt(state: &Path, incident: &str, receipt: &Receipt) {
    let path = state.join("spool/receipts").join(file_name(incident));
    std::fs::write(path, receipt.to_bytes()).unwrap();
}

fn names(state: &Path, directory: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(state.join("spool").join(directory))
        .unwrap()
        .map(|entry| crate::text::escape_path(entry.unwrap().file_name()))
        .collect();
    names.sort();
    names
}

#[test]
fn an_item_is_on_the_disk_whole_and_nothing_else_is() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one", 2)).unwrap();
    assert_eq!(names(state.path(), "items"), ["one.json"]);
    assert_eq!(stored(state.path(), "one").item, item("one", 2));
}

#[test]
fn growing_makes_a_new_revision_and_putting_the_same_again_does_not() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one", 1)).unwrap();
    let first = stored(state.path(), "one").revision;
    spool.put(&item("one", 2)).unwrap();
    let second = stored(state.path(), "one").revision;
    assert_ne!(first, second);
    drop(spool);

    let mut spool = Spool::open(state.path()).unwrap();
    assert_eq!(spool.waiting(), 1);
    spool.put(&item("one", 2)).unwrap();
    assert_eq!(stored(state.path(), "one").revision, second);
}

#[test]
fn a_delivered_item_is_removed_and_told_once() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one", 1)).unwrap();
    assert_eq!(spool.collect().unwrap(), []);
    let revision = stored(state.path(), "one").revision;
    let receipt = Receipt { delivered: Some(revision.clone()), ..Receipt::new(&revision) };
    write_receipt(state.path(), "one", &receipt);
    assert_eq!(spool.collect().unwrap(), [News::Delivered { incident: "one".into() }]);
    assert_eq!(spool.collect().unwrap(), []);
    assert_eq!((names(state.path(), "items"), names(state.path(), "receipts")), (vec![], vec![]));
}

#[test]
fn an_item_that_grew_after_its_delivery_stays_for_a_second_message() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one", 1)).unwrap();
    let revision = stored(state.path(), "one").revision;
    let receipt = Receipt { delivered: Some(revision.clone()), ..Receipt::new(&revision) };
    write_receipt(state.path(), "one", &receipt);
    spool.put(&item("one", 2)).unwrap();
    assert_eq!(spool.collect().unwrap(), []);
    assert_eq!(names(state.path(), "items"), ["one.json"]);
}

#[test]
fn failures_are_told_at_the_first_and_whenever_they_have_doubled() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one", 1)).unwrap();
    let revision = stored(state.path(), "one").revision;
    let mut told = Vec::new();
    for attempts in 0..=9 {
        let error = (attempts > 0).then(|| "refused\n".to_owned());
        let receipt = Receipt { attempts, error, ..Receipt::new(&revision) };
        write_receipt(state.path(), "one", &receipt);
        for news in spool.collect().unwrap() {
            let News::Failed { attempts, error, .. } = news else { panic!("{news:?}") };
            assert_eq!(error, "refused\\n");
            told.push(attempts);
        }
    }
    assert_eq!(told, [1, 2, 4, 8]);
}

#[test]
fn an_attempt_that_is_under_way_is_no_failure() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one", 1)).unwrap();
    let revision = stored(state.path(), "one").revision;
    let error = Some("interrupted".to_owned());
    let receipt = Receipt { attempts: 1, under_way: true, error, ..Receipt::new(&revision) };
    write_receipt(state.path(), "one", &receipt);
    assert_eq!(spool.collect().unwrap(), []);
}

#[test]
fn whatever_lies_where_a_receipt_should_be_neither_hangs_nor_misleads_the_daemon() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    let secret = state.path().join("secret");
    std::fs::write(&secret, b"secret").unwrap();
    for incident in ["fifo", "link", "huge", "text", "directory"] {
        spool.put(&item(incident, 1)).unwrap();
    }
    let receipts = state.path().join("spool/receipts");
    nix::unistd::mkfifo(&receipts.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink(&secret, receipts.join("link.json")).unwrap();
    std::fs::File::create(receipts.join("huge.json")).unwrap().set_len(1 << 40).unwrap();
    std::fs::write(receipts.join("text.json"), b"{\"delivered\":").unwrap();
    std::fs::create_dir(receipts.join("directory.json")).unwrap();
    assert_eq!(spool.collect().unwrap(), []);
    assert_eq!(spool.waiting(), 5);
}

#[test]
fn rubbish_among_the_items_is_set_aside_and_told_once() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("good", 1)).unwrap();
    let items = state.path().join("spool/items");
    nix::unistd::mkfifo(&items.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", items.join("link.json")).unwrap();
    std::fs::File::create(items.join("huge.json")).unwrap().set_len(1 << 40).unwrap();
    let whole = std::fs::read(items.join("good.json")).unwrap();
    std::fs::write(items.join("cut.json"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(items.join("other-name.json"), &whole).unwrap();
    std::fs::write(items.join(std::ffi::OsStr::from_bytes(b"\xff\n")), b"").unwrap();

    let mut rejected = Vec::new();
    for news in spool.collect().unwrap() {
        let News::Rejected { name, .. } = news else { panic!("{news:?}") };
        rejected.push(name);
    }
    rejected.sort();
    let expected =
        ["\\xff\\n", "cut.json", "fifo.json", "huge.json", "link.json", "other-name.json"];
    assert_eq!(rejected, expected);
    assert_eq!(names(state.path(), "rejected"), expected);
    assert_eq!(names(state.path(), "items"), ["good.json"]);
    assert_eq!(spool.collect().unwrap(), []);
}

#[test]
fn a_write_that_was_cut_off_is_forgotten_when_the_spool_is_opened() {
    let state = tempfile::tempdir().unwrap();
    drop(Spool::open(state.path()).unwrap());
    let leftover = state.path().join("spool/items/.one.json.new");
    std::fs::write(&leftover, b"{").unwrap();
    drop(Spool::open(state.path()).unwrap());
    assert!(!leftover.exists());
}

#[test]
fn an_incident_that_is_no_plain_name_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    let long = "x".repeat(65);
    for incident in ["", ".", "../x", "a/b", "a\nb", ".hidden", long.as_str()] {
        assert!(matches!(spool.put(&item(incident, 1)), Err(SpoolError::Incident(_))));
    }
    assert_eq!(names(state.path(), "items"), Vec::<String>::new());
}

#[test]
fn an_incident_of_any_size_fits_and_keeps_its_beginning_and_its_end() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    let mut large = item("large", 20_000);
    for event in &mut large.events {
        event.note = Some("x".repeat(100));
    }
    spool.put(&large).unwrap();
    let kept = stored(state.path(), "large");
    assert_eq!(kept.item.events.len() + kept.left_out, 20_000);
    assert_eq!(kept.item.events.first(), large.events.first());
    assert_eq!(kept.item.events.last(), large.events.last());

    let mut wide = item("wide", 1);
    wide.events[0].note = Some("x".repeat(3 << 20));
    spool.put(&wide).unwrap();
    assert_eq!(stored(state.path(), "wide").item.events[0].kind, Kind::ContentChanged);
}

#[test]
fn a_full_disk_is_an_error_and_leaves_what_was_there() {
    let state = tempfile::tempdir().unwrap();
    let mount = nix::mount::MsFlags::MS_NOSUID;
    nix::mount::mount(Some("steadfast"), state.path(), Some("tmpfs"), mount, Some("size=64k"))
        .expect("this test needs root");
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one", 1)).unwrap();
    let filler = std::fs::write(state.path().join("filler"), vec![1; 1 << 20]);
    let refused = spool.put(&item("one", 100));
    let after = (stored(state.path(), "one").item, names(state.path(), "items"));
    drop(spool);
    nix::mount::umount2(state.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    assert!(filler.is_err());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("incident one") && error.contains("No space"), "{error}");
    assert_eq!(after, (item("one", 1), vec!["one.json".to_owned()]));
}

#[test]
fn a_settling_item_can_have_its_moment_moved() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    let mut moved = item("one", 1);
    spool.put(&moved).unwrap();
    moved.not_before += Duration::from_secs(5);
    spool.put(&moved).unwrap();
    assert_eq!(stored(state.path(), "one").item, moved);
}

use super::*;
use crate::alert::{News, Spool};
use crate::record::{Event, Kind, Severity};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn item(incident: &str, not_before: i64, events: i64) -> Item {
    let event = |n| Event::new(at(n), Kind::ContentChanged, Severity::Warning);
    let incident = incident.to_owned();
    Item { incident, not_before: at(not_before), events: (0..events).map(event).collect() }
}

fn trouble() -> Failure {
    Failure { error: "no\r\nanswer".into(), server_trouble: true }
}

fn room() -> (tempfile::TempDir, Spool, Pickup) {
    let state = tempfile::tempdir().unwrap();
    let spool = Spool::open(state.path()).unwrap();
    let pickup = Pickup::open(state.path()).unwrap();
    (state, spool, pickup)
}

#[test]
fn an_item_is_due_at_its_moment_and_not_before() {
    let (_state, mut spool, mut pickup) = room();
    spool.put(&item("one", 1000, 1)).unwrap();
    assert!(pickup.refresh().unwrap());
    assert!(!pickup.refresh().unwrap(), "nothing new the second time");
    assert!(pickup.next_due(at(999)).is_none());
    assert_eq!(pickup.next_moment(), Some(at(1000)));
    assert_eq!(pickup.next_due(at(1000)).unwrap().item, item("one", 1000, 1));
}

#[test]
fn a_delivered_item_is_never_due_again_not_even_after_a_restart() {
    let (state, mut spool, mut pickup) = room();
    spool.put(&item("one", 0, 1)).unwrap();
    pickup.refresh().unwrap();
    let due = pickup.next_due(at(5)).unwrap();
    pickup.begin(&due, at(5));
    pickup.delivered(&due);
    assert!(pickup.next_due(at(99)).is_none());
    drop(pickup);
    let mut pickup = Pickup::open(state.path()).unwrap();
    assert!(pickup.next_due(at(99)).is_none());
    assert_eq!(spool.collect().unwrap(), [News::Delivered { incident: "one".into() }]);
    pickup.refresh().unwrap();
    assert_eq!(pickup.next_moment(), None);
}

#[test]
fn an_item_that_grew_is_due_again_as_a_follow_up() {
    let (_state, mut spool, mut pickup) = room();
    spool.put(&item("one", 0, 1)).unwrap();
    pickup.refresh().unwrap();
    let first = pickup.next_due(at(5)).unwrap();
    assert!(!first.follow_up);
    pickup.begin(&first, at(5));
    pickup.delivered(&first);
    spool.put(&item("one", 9, 2)).unwrap();
    assert!(pickup.refresh().unwrap());
    assert!(pickup.next_due(at(8)).is_none());
    let second = pickup.next_due(at(9)).unwrap();
    assert!(second.follow_up);
    assert_ne!(second.revision, first.revision);
}

#[test]
fn an_item_that_grows_while_it_is_sent_is_sent_again() {
    let (_state, mut spool, mut pickup) = room();
    spool.put(&item("one", 0, 1)).unwrap();
    pickup.refresh().unwrap();
    let first = pickup.next_due(at(5)).unwrap();
    pickup.begin(&first, at(5));
    spool.put(&item("one", 0, 2)).unwrap();
    pickup.delivered(&first);
    assert_eq!(spool.collect().unwrap(), []);
    pickup.refresh().unwrap();
    assert_eq!(pickup.next_due(at(5)).unwrap().item.events.len(), 2);
}

#[test]
fn a_failure_is_waited_for_longer_each_time_and_remembered_over_a_restart() {
    let (state, mut spool, mut pickup) = room();
    spool.put(&item("one", 0, 1)).unwrap();
    pickup.refresh().unwrap();
    let mut now = at(10_000);
    for wait in [2, 4, 8, 16] {
        let due = pickup.next_due(now).unwrap();
        pickup.begin(&due, now);
        pickup.defer(&due, Vec::new(), trouble(), now);
        drop(pickup);
        pickup = Pickup::open(state.path()).unwrap();
        let next = now + std::time::Duration::from_secs(wait);
        assert!(pickup.next_due(next - std::time::Duration::from_secs(1)).is_none());
        now = next;
    }
    let news = spool.collect().unwrap();
    let [News::Failed { attempts: 4, error, .. }] = news.as_slice() else { panic!("{news:?}") };
    assert_eq!(error, "no\\r\\nanswer");
}

#[test]
fn an_attempt_that_brought_the_process_down_counts() {
    let (state, mut spool, mut pickup) = room();
    spool.put(&item("one", 0, 1)).unwrap();
    pickup.refresh().unwrap();
    let due = pickup.next_due(at(5)).unwrap();
    pickup.begin(&due, at(5));
    drop(pickup);
    let mut pickup = Pickup::open(state.path()).unwrap();
    assert!(pickup.next_due(at(6)).is_none());
    assert!(pickup.next_due(at(7)).is_some());
}

#[test]
fn receivers_who_were_told_are_not_told_again() {
    let (state, mut spool, mut pickup) = room();
    spool.put(&item("one", 0, 1)).unwrap();
    pickup.refresh().unwrap();
    let due = pickup.next_due(at(5)).unwrap();
    pickup.begin(&due, at(5));
    pickup.defer(&due, vec!["a@example.com".into()], trouble(), at(5));
    drop(pickup);
    let mut pickup = Pickup::open(state.path()).unwrap();
    assert_eq!(pickup.next_due(at(50)).unwrap().told, ["a@example.com"]);
}

#[test]
fn when_the_server_works_again_what_waited_for_it_is_due() {
    let (_state, mut spool, mut pickup) = room();
    spool.put(&item("one", 0, 1)).unwrap();
    pickup.refresh().unwrap();
    let due = pickup.next_due(at(5)).unwrap();
    pickup.begin(&due, at(5));
    pickup.defer(&due, Vec::new(), trouble(), at(5));
    assert!(pickup.next_due(at(5)).is_none());
    pickup.expedite();
    assert!(pickup.next_due(at(5)).is_some());
}

#[test]
fn rubbish_neither_hangs_the_process_nor_keeps_items_back() {
    let (state, mut spool, mut pickup) = room();
    let items = state.path().join("spool/items");
    nix::unistd::mkfifo(&items.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/zero", items.join("link.json")).unwrap();
    std::fs::File::create(items.join("huge.json")).unwrap().set_len(1 << 40).unwrap();
    std::fs::write(items.join("text.json"), b"{}").unwrap();
    std::fs::create_dir(items.join("directory.json")).unwrap();
    std::fs::write(items.join("no item"), b"").unwrap();
    spool.put(&item("one", 0, 1)).unwrap();
    assert!(pickup.refresh().unwrap());
    assert_eq!(pickup.next_due(at(5)).unwrap().item.incident, "one");
    assert_eq!(pickup.rubbish.len(), 6);
    assert_eq!(spool.collect().unwrap().len(), 6);
    pickup.refresh().unwrap();
    assert_eq!(pickup.rubbish.len(), 0);
}

#[test]
fn a_spool_that_was_removed_is_an_error_and_not_an_empty_spool() {
    let (state, _spool, mut pickup) = room();
    std::fs::remove_dir_all(state.path().join("spool")).unwrap();
    assert!(pickup.refresh().is_err());
}

#[test]
fn receipts_without_an_item_are_forgotten() {
    let (state, _spool, pickup) = room();
    drop(pickup);
    let receipt = state.path().join("spool/receipts/old.json");
    std::fs::write(&receipt, b"{}").unwrap();
    drop(Pickup::open(state.path()).unwrap());
    assert!(!receipt.exists());
}

#[test]
fn that_receipts_cannot_be_written_is_said_once_until_they_can() {
    let (state, mut spool, mut pickup) = room();
    let receipts = state.path().join("spool/receipts");
    std::fs::remove_dir_all(&receipts).unwrap();
    let mut said = Vec::new();
    for incident in ["a", "b", "c"] {
        spool.put(&item(incident, 0, 1)).unwrap();
        assert!(pickup.refresh().unwrap());
        pickup.slots.get_mut(incident).unwrap().unsaved = true;
        said.extend(pickup.save_unsaved());
    }
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("incident a") && said[0].contains("mailed again"), "{said:?}");
    // A directory that can be written to.
    pickup.receipts = files::open_directory(state.path()).unwrap();
    assert_eq!(pickup.save_unsaved(), None);
    assert!(pickup.slots.values().all(|slot| !slot.unsaved));
    assert!(state.path().join("c.json").exists());
    pickup.receipts = std::fs::File::open("/proc").unwrap().into();
    pickup.slots.get_mut("b").unwrap().unsaved = true;
    assert!(pickup.save_unsaved().is_some());
    assert_eq!(pickup.save_unsaved(), None);
}

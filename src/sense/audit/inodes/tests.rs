use std::time::Duration;

use super::*;

const NUMBER: Number = ((8, 1), 77);
const KEY: InodeKey = InodeKey { dev: 0x801, ino: 77 };

fn call(millis: u32) -> FileTime {
    FileTime { sec: 100, nsec: millis * 1_000_000 }
}

fn since(millis: u32, began: Instant) -> Since {
    Since { call: call(millis), open: began + Duration::from_millis(millis.into()) }
}

fn files(touched: &[Touched]) -> Vec<u32> {
    touched.iter().map(|touched| touched.file.0).collect()
}

fn called(inodes: &Inodes, millis: u32) -> Vec<Touched> {
    inodes.called(&NUMBER, call(millis), Some(b"/srv/one"))
}

fn of_one(began: Instant) -> Inodes {
    let mut inodes = Inodes::default();
    let (one, path) = (FileId(1), Path::new("/srv/one"));
    inodes.at_path((one, &path.into()), (NUMBER, KEY), false, since(0, began));
    inodes
}

/// The number of the first file is that of a replica of the second, 40 ms later.
fn used_again(began: Instant) -> Inodes {
    let mut inodes = of_one(began);
    let other = (((8, 1), 78), InodeKey { dev: 0x801, ino: 78 });
    let (two, path) = (FileId(2), Path::new("/srv/two"));
    inodes.at_path((two, &path.into()), other, false, since(0, began));
    inodes.replica(two, (NUMBER, KEY), since(40, began));
    inodes
}

#[test]
fn what_was_done_before_a_number_was_used_again_is_not_laid_on_the_later_file() {
    let began = Instant::now();
    let inodes = used_again(began);
    assert_eq!(files(&called(&inodes, 36)), [1]);
    assert_eq!(files(&called(&inodes, 44)), [2]);
    let at = |millis| began + Duration::from_millis(millis);
    assert_eq!(files(&inodes.opened(KEY, at(39))), [1]);
    assert_eq!(files(&inodes.opened(KEY, at(41))), [2]);
}

#[test]
fn within_one_step_of_the_clock_it_may_be_either_until_the_earlier_has_ended() {
    let mut inodes = used_again(Instant::now());
    assert_eq!(files(&called(&inodes, 40)), [1, 2]);
    inodes.removed(&NUMBER, call(40));
    assert_eq!(files(&called(&inodes, 40)), [2]);
}

#[test]
fn a_call_that_was_held_up_while_the_number_was_used_again_is_laid_on_the_file_that_it_names_too() {
    let inodes = used_again(Instant::now());
    let called = |began, name: Option<&[u8]>| files(&inodes.called(&NUMBER, call(began), name));
    assert_eq!(called(36, Some(b"../srv/two")), [1, 2]);
    assert_eq!(called(36, None), [1]);
    assert_eq!(called(44, Some(b"/srv/one")), [2], "the earlier was gone by then");
}

#[test]
fn what_has_lost_its_last_name_is_no_file_of_ours_any_more() {
    let began = Instant::now();
    let mut inodes = of_one(began);
    inodes.removed(&NUMBER, call(8));
    assert_eq!(files(&called(&inodes, 9)), [0; 0]);
}

#[test]
fn an_inode_with_two_protected_names_is_both_files_and_survives_one() {
    let began = Instant::now();
    let mut inodes = Inodes::default();
    for (file, path) in [(FileId(1), "/srv/one"), (FileId(2), "/srv/two")] {
        inodes.at_path((file, &Path::new(path).into()), (NUMBER, KEY), true, since(0, began));
    }
    inodes.removed(&NUMBER, call(8));
    assert_eq!(files(&called(&inodes, 9)), [1, 2]);
    inodes.forget(FileId(1));
    assert_eq!(files(&called(&inodes, 9)), [2]);
    assert!(inodes.is_called(FileId(2), Some(b"/srv/two")));
    assert!(!inodes.is_called(FileId(2), Some(b"/srv/one")));
}

#[test]
fn silence_proves_nothing_of_a_time_in_which_the_inode_was_not_recorded() {
    let began = Instant::now();
    let mut inodes = of_one(began + Duration::from_millis(5));
    let at = |millis| began + Duration::from_millis(millis);
    assert!(!inodes.is_recorded(FileId(1), KEY, at(4)));
    assert!(inodes.is_recorded(FileId(1), KEY, at(5)));
    assert!(!inodes.is_recorded(FileId(2), KEY, at(5)), "not known");
    inodes.is_refused(FileId(1), &NUMBER, at(1000));
    assert!(!inodes.is_recorded(FileId(1), KEY, at(5)));
    // A replica is recorded before it has the path.
    inodes.replica(FileId(3), (NUMBER, KEY), since(40, began));
    assert!(inodes.is_recorded(FileId(3), KEY, began));
}

#[test]
fn a_mount_on_a_directory_covers_what_is_below_and_nothing_beside() {
    let began = Instant::now();
    let mut inodes = of_one(began);
    let other = ((8, 1), 78);
    let key = InodeKey { dev: 0x801, ino: 78 };
    inodes.at_path(
        (FileId(2), &Path::new("/srv2/two").into()),
        (other, key),
        false,
        since(0, began),
    );
    assert_eq!(inodes.unknown_above(Path::new("/srv/one")), [Path::new("/srv"), Path::new("/")]);
    inodes.above(Path::new("/srv"), ((8, 1), 5));
    assert_eq!(files(&inodes.covered(&((8, 1), 5), call(1), None)), [1]);
    assert_eq!(files(&inodes.covered(&other, call(1), None)), [2]);
    assert_eq!(files(&inodes.covered(&((8, 1), 6), call(1), None)), [0; 0]);
}

#[test]
fn what_is_remembered_of_a_file_stays_bounded() {
    let began = Instant::now();
    let mut inodes = Inodes::default();
    for ino in 0..500 {
        let key = InodeKey { dev: 0x801, ino };
        inodes.replica(FileId(1), (((8, 1), ino), key), since(1, began));
    }
    assert_eq!(inodes.keys().len(), MOST_INODES);
    assert_eq!(inodes.lives.iter().count(), MOST_INODES);
    for millis in 0..500 {
        inodes.replica(FileId(1), (NUMBER, KEY), since(millis, began));
    }
    assert_eq!(inodes.of(&NUMBER).count(), MOST_LIVES);
    assert_eq!(files(&called(&inodes, 500)), [1]);
}

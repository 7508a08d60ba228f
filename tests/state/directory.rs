//! The directory itself and what is in it: removed, moved away, replaced by a link.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};

use rustix::process::Signal;

use super::{assert_guards, assert_said, guard, verify, wait_told};
use crate::common::{self, GOOD, Guard, MARKER, Place, clear_at_once, not_root, poll, skip_unless};

/// All at once, as the daemon sees it: it stands still meanwhile.
fn remove_state(guard: &Guard) {
    guard.signal(Signal::STOP);
    clear_at_once(&guard.state());
    fs::remove_dir_all(guard.state()).unwrap();
    guard.signal(Signal::CONT);
}

/// Before the known-good copy is made again, a heal may have nothing to put there.
fn wait_copied(guard: &Guard) {
    let vault = guard.state().join("vault");
    let copied = || {
        let mut all = fs::read_dir(&vault).into_iter().flatten().flatten();
        all.any(|copy| fs::read(copy.path()).is_ok_and(|content| content == GOOD))
    };
    poll(|| copied().then_some(()), || format!("{}\n{}", guard.status(), guard.story()));
}

#[test]
fn a_removed_state_directory_is_made_again_and_no_line_that_is_open_is_lost() {
    skip_unless!(not_root());
    let mut guard = guard();
    assert_guards(&guard);
    let before = guard.events();
    remove_state(&guard);
    wait_told(&guard, "state");
    wait_copied(&guard);
    assert_said(&guard, "somebody removed");
    assert_guards(&guard);
    let after = guard.events();
    assert_eq!(after[..before.len()], before[..]);
    let (code, said) = verify(&guard);
    assert_eq!(code, Some(0), "{said}");
    guard.stop();
    assert!(guard.log().lines().any(|line| line.contains("stopped")), "{}", guard.log());
    let seq = guard.events().last().unwrap()["seq"].as_u64().unwrap();
    guard.start();
    assert_eq!(guard.status()["protected"], 1);
    assert_guards(&guard);
    assert!(guard.last_seq() > seq);
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn what_waits_when_the_state_goes_just_before_the_stop_is_written_into_a_new_one() {
    skip_unless!(not_root());
    let mut guard = guard();
    remove_state(&guard);
    guard.stop();
    let kinds: Vec<_> = guard.events().iter().map(|line| line["kind"].clone()).collect();
    assert!(kinds.iter().any(|kind| kind == "stopped"), "{}", guard.story());
    wait_told(&guard, "state");
    guard.start();
    assert_guards(&guard);
}

#[test]
fn a_state_directory_that_is_moved_away_is_put_back_and_a_link_in_its_place_is_not_followed() {
    skip_unless!(not_root());
    let guard = guard();
    let away = guard.state().with_file_name("away");
    let trap = guard.state().with_file_name("trap");
    fs::create_dir(&trap).unwrap();
    let ino = fs::metadata(guard.state()).unwrap().ino();
    fs::rename(guard.state(), &away).unwrap();
    symlink(&trap, guard.state()).unwrap();
    wait_told(&guard, "moved");
    assert_eq!(fs::symlink_metadata(guard.state()).unwrap().ino(), ino);
    assert!(away.is_symlink(), "what was put there is kept");
    assert_eq!(fs::read_dir(&trap).unwrap().count(), 0, "nothing went through the link");
    assert_said(&guard, "moved");
    assert_guards(&guard);
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn every_part_of_the_state_that_is_removed_or_moved_comes_back() {
    skip_unless!(not_root());
    let guard = guard();
    for part in ["journal", "vault", "quarantine", "spool", "replicas"] {
        let path = guard.state().join(part);
        fs::rename(&path, guard.state().join("away")).unwrap();
        wait_told(&guard, &format!("moved {}", path.display()));
        assert!(path.is_dir() && !guard.state().join("away").exists());

        clear_at_once(&path);
        fs::remove_dir_all(&path).unwrap();
        wait_told(&guard, &format!("removed {}", path.display()));
        poll(|| path.is_dir().then_some(()), || guard.story());
    }
    assert_guards(&guard);
    assert_eq!(verify(&guard).0, Some(0));
}

#[test]
fn a_link_in_the_place_of_the_replicas_is_not_followed_and_heals_go_on() {
    skip_unless!(not_root());
    let guard = guard();
    assert_guards(&guard);
    let replicas = guard.state().join("replicas");
    let trap = guard.state().with_file_name("trap");
    fs::create_dir(&trap).unwrap();
    clear_at_once(&replicas);
    fs::remove_dir_all(&replicas).unwrap();
    symlink(&trap, &replicas).unwrap();
    wait_told(&guard, &format!("removed {}", replicas.display()));
    assert!(fs::symlink_metadata(&replicas).unwrap().is_dir());
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    assert_eq!(fs::read_dir(&trap).unwrap().count(), 0, "nothing went through the link");
    poll(|| fs::read_dir(&replicas).unwrap().next().map(drop), || guard.story());
}

/// Where the state is on another filesystem, copies lie ready beside the files.
#[test]
fn a_link_in_the_place_of_the_copies_on_the_files_own_filesystem_leads_no_write_elsewhere() {
    skip_unless!(not_root());
    let place = match Place::new("tmpfs") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&why),
    };
    let mut guard = Guard::on(place).file("main.py", GOOD).start();
    let slot = guard.dir().ancestors().map(|above| above.join(".steadfast")).find(|s| s.is_dir());
    let slot = slot.unwrap();
    let trap = guard.dir().join("trap");
    fs::create_dir(&trap).unwrap();
    for while_it_runs in [true, false] {
        if !while_it_runs {
            guard.kill();
        }
        clear_at_once(&slot);
        let _ = fs::remove_dir_all(&slot);
        let _ = fs::remove_file(&slot);
        symlink(&trap, &slot).unwrap();
        if !while_it_runs {
            guard.start();
        }
        guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
        guard.wait_whole();
        assert_eq!(fs::read_dir(&trap).unwrap().count(), 0, "nothing went through the link");
    }
}

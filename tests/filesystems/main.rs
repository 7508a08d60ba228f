//! The core routes on every filesystem that is promised, and what differs between them: flags
//! that are not there, writers that no flag stops, mounts that come and go.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{
    GOOD, Guard, MARKER, Place, cleared_surely, exchange_surely, incident_of, inode, is_immutable,
    not_root, skip_unless,
};

macro_rules! place {
    ($kind:expr) => {
        match Place::new($kind) {
            Ok(place) => place,
            Err(reason) => {
                common::report_skip(&format!("no {} here: {}", $kind, reason.trim()));
                return;
            }
        }
    };
}

mod mounts;

/// Content, name, metadata, another name and a parent: one file each, one after the other.
fn core_routes(place: Place) {
    let mut guard = Guard::on(place)
        .file("appended", GOOD)
        .file("linked", GOOD)
        .file("mode", GOOD)
        .file("nested/deep/file", GOOD)
        .file("removed", GOOD)
        .file("replaced", GOOD)
        .file("shell", GOOD)
        .bystander("evil", MARKER)
        .prepare(|dir| {
            std::fs::hard_link(dir.join("linked"), dir.join("second")).unwrap();
        })
        .start();
    let paths: Vec<_> = ["appended", "linked", "mode", "removed", "replaced", "shell"]
        .iter()
        .map(|name| guard.path(name))
        .collect();
    let [appended, linked, mode, removed, replaced, shell] = paths.as_slice() else {
        unreachable!("six names, six paths");
    };
    let nested = guard.path("nested/deep/file");
    let inodes = [inode(linked), inode(mode)];

    guard.write_surely(appended, |file| file.write_all_at(MARKER, GOOD.len() as u64));
    guard.write_surely(&guard.path("second"), |file| file.write_all_at(MARKER, 2));
    cleared_surely(&guard, mode, || {
        std::fs::set_permissions(mode, PermissionsExt::from_mode(0o4777))
    });
    cleared_surely(&guard, removed, || std::fs::remove_file(removed));
    exchange_surely(&guard, replaced, &guard.path("evil"));
    guard.sh_on(shell, r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE""#);
    std::fs::rename(guard.path("nested"), guard.path("elsewhere")).unwrap();

    for path in paths.iter().chain([&nested]) {
        guard.wait_whole_at(path);
        incident_of(&guard, path, 0).assert_healed().assert_honest();
    }
    assert_eq!([inode(linked), inode(mode)], inodes, "healed on the inode that is there");
    assert_eq!(std::fs::read(guard.path("second")).unwrap(), GOOD);
    assert!(guard.quarantine_holds(MARKER), "{}", guard.story());
    assert!(guard.is_alive());
}

#[test]
fn files_on_ext4_are_guarded() {
    skip_unless!(not_root());
    core_routes(place!("ext4"));
}

#[test]
fn files_on_xfs_are_guarded() {
    skip_unless!(not_root());
    core_routes(place!("xfs"));
}

#[test]
fn files_on_btrfs_are_guarded() {
    skip_unless!(not_root());
    core_routes(place!("btrfs"));
}

#[test]
fn files_on_tmpfs_are_guarded() {
    skip_unless!(not_root());
    core_routes(place!("tmpfs"));
}

#[test]
fn files_on_an_overlay_are_guarded() {
    skip_unless!(not_root());
    core_routes(place!("overlay"));
}

#[test]
fn a_file_that_an_overlay_has_only_in_its_lower_layer_is_guarded() {
    skip_unless!(not_root());
    let place = place!("overlay");
    let lower = place.mount_point().with_file_name("lower");
    place.unmount().unwrap();
    std::fs::create_dir_all(lower.join("files")).unwrap();
    common::write_old(&lower.join("files/below"), GOOD);
    let mut place = place;
    place.mount().unwrap();
    let guard = Guard::on(place).protect("below").start();
    let path = guard.path("below");
    guard.write_surely(&path, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole_at(&path);
    incident_of(&guard, &path, 0).assert_healed();
}

#[test]
fn files_without_inode_flags_are_guarded_and_status_says_what_they_lack() {
    skip_unless!(not_root());
    let guard = Guard::on(place!("ramfs")).file("main.py", GOOD).start();
    let file = guard.file();
    assert_eq!(is_immutable(&file), None, "ramfs has no flags");
    let status = guard.status();
    let lacks = status["shortcomings"].as_array().unwrap();
    let why = lacks.iter().find(|lack| lack["path"].as_str().map(Path::new) == Some(&file));
    let why = why.unwrap_or_else(|| panic!("{status}"))["why"].as_str().unwrap();
    assert!(why.contains("+i") || why.contains("immutable"), "{why}");

    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &file, 0).assert_any(&["content-changed"]).assert_healed();
    assert!(guard.quarantine_holds(MARKER));

    let seq = guard.last_seq();
    std::fs::remove_file(&file).unwrap();
    guard.wait_whole();
    incident_of(&guard, &file, seq).assert_any(&["deleted"]).assert_healed();
}

// Writers that were there first.

/// A descriptor that was open for writing before the file was protected.
fn old_descriptor(place: Place) {
    let old = std::cell::OnceCell::new();
    let guard = Guard::on(place)
        .file("main.py", GOOD)
        .prepare(|dir| {
            let file = File::options().read(true).write(true).open(dir.join("main.py"));
            let _ = old.set(file.unwrap());
        })
        .start();
    for _ in 0..20 {
        // ext4 refuses it; xfs and btrfs let it, `+i` or not.
        let _ = old.get().unwrap().write_all_at(MARKER, 2);
        let _ = old.get().unwrap().sync_all();
        guard.wait_whole();
    }
    guard.wait_settled();
    guard.wait_whole();
}

#[test]
fn a_descriptor_opened_for_writing_before_the_protection_harms_nothing_on_ext4() {
    skip_unless!(not_root());
    old_descriptor(place!("ext4"));
}

#[test]
fn a_descriptor_opened_for_writing_before_the_protection_harms_nothing_on_xfs() {
    skip_unless!(not_root());
    old_descriptor(place!("xfs"));
}

#[test]
fn a_descriptor_opened_for_writing_before_the_protection_harms_nothing_on_btrfs() {
    skip_unless!(not_root());
    old_descriptor(place!("btrfs"));
}

/// A guard, and a child that ran the Python script `map` on the file beforehand until it said so.
/// It is a child because what ext4 does to it is SIGBUS.
fn mapped_before(place: Place, map: &str) -> (Guard, Child, BufReader<ChildStdout>) {
    let mut mapper = None;
    let guard = Guard::on(place)
        .file("main.py", GOOD)
        .prepare(|dir| {
            let mut child = Command::new("python3")
                .args(["-c", map])
                .arg(dir.join("main.py"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .current_dir("/")
                .spawn()
                .unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            output.read_line(&mut String::new()).unwrap();
            mapper = Some((child, output));
        })
        .start();
    let (child, output) = mapper.expect("prepared");
    (guard, child, output)
}

/// A shared mapping made before the file was protected; writing to it makes no event.
fn old_mapping(place: Place) {
    let map = "import mmap, sys\n\
        with open(sys.argv[1], 'r+b') as file: bytes = mmap.mmap(file.fileno(), 0)\n\
        print(flush=True)\n\
        input()\n\
        bytes[2:10] = b'TAMPERED'\n\
        bytes.flush()\n\
        print(flush=True)\n";
    let (guard, mut child, mut output) = mapped_before(place, map);
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let _refused = output.read_line(&mut String::new());
    let _ = child.wait().unwrap();
    guard.wait_whole();
    guard.wait_settled();
    guard.wait_whole();
}

#[test]
fn a_mapping_made_before_the_protection_harms_nothing_on_ext4() {
    skip_unless!(not_root().or_else(|| common::missing(&["python3"])));
    old_mapping(place!("ext4"));
}

#[test]
fn a_mapping_made_before_the_protection_harms_nothing_on_xfs() {
    skip_unless!(not_root().or_else(|| common::missing(&["python3"])));
    old_mapping(place!("xfs"));
}

#[test]
fn a_mapping_made_before_the_protection_harms_nothing_on_btrfs() {
    skip_unless!(not_root().or_else(|| common::missing(&["python3"])));
    old_mapping(place!("btrfs"));
}

/// A shared mapping that was written to before: another write through it moves no time.
fn silent_mapping(place: Place) {
    let map = "import mmap, sys\n\
        with open(sys.argv[1], 'r+b') as file: bytes = mmap.mmap(file.fileno(), 0)\n\
        bytes[0:1] = bytes[0:1]\n\
        print(flush=True)\n\
        input()\n\
        bytes[2:10] = b'TAMPERED'\n\
        print(flush=True)\n\
        input()\n";
    let (guard, mut child, mut output) = mapped_before(place, map);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\n").unwrap();
    let written = output.read_line(&mut String::new());
    // Where the filesystem kept the write from it, it is gone.
    if written.is_ok_and(|got| got > 0) {
        common::poll(|| guard.quarantine_holds(MARKER).then_some(()), || guard.story());
    }
    guard.wait_whole();
    drop(input);
    let _ = child.wait().unwrap();
    guard.wait_settled();
    guard.wait_whole();
}

#[test]
fn a_write_through_an_old_mapping_that_nothing_tells_of_is_found_on_ext4() {
    skip_unless!(not_root().or_else(|| common::missing(&["python3"])));
    silent_mapping(place!("ext4"));
}

#[test]
fn a_write_through_an_old_mapping_that_nothing_tells_of_is_found_on_xfs() {
    skip_unless!(not_root().or_else(|| common::missing(&["python3"])));
    silent_mapping(place!("xfs"));
}

#[test]
fn a_write_through_an_old_mapping_that_nothing_tells_of_is_found_on_btrfs() {
    skip_unless!(not_root().or_else(|| common::missing(&["python3"])));
    silent_mapping(place!("btrfs"));
}

#[test]
fn a_write_through_an_old_mapping_that_nothing_tells_of_is_found_on_tmpfs() {
    skip_unless!(not_root().or_else(|| common::missing(&["python3"])));
    silent_mapping(place!("tmpfs"));
}

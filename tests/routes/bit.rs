//! The immutable bit and its sister `+a`, cleared and set by every route the kernel has.

use std::fs::File;

use rustix::fs::IFlags;

use super::{METADATA, WRITE};
use crate::common::{
    GOOD, Guard, MARKER, Route, clear_through_file_setattr, clear_through_fssetxattr, incident_of,
    inode, missing, not_root, skip_unless,
};

#[test]
fn the_bit_alone_is_set_again_without_touching_the_file() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE""#).keeps_inode().check();
}

#[test]
fn the_bit_cleared_through_fssetxattr_is_set_again() {
    skip_unless!(not_root());
    Route::surely(|guard| clear_through_fssetxattr(&guard.file()).unwrap()).keeps_inode().check();
}

#[test]
fn the_bit_cleared_by_xfs_io_is_set_again() {
    skip_unless!(not_root().or_else(|| missing(&["xfs_io"])));
    Route::shell(r#"xfs_io -r -c "chattr -i" "$FILE""#).keeps_inode().check();
}

#[test]
fn the_bit_cleared_by_file_setattr_is_set_again() {
    skip_unless!(not_root().or_else(no_file_setattr));
    Route::surely(|guard| clear_through_file_setattr(&guard.file()).unwrap())
        .keeps_inode()
        .nameless()
        .check();
}

fn no_file_setattr() -> Option<String> {
    let probe = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    let error = clear_through_file_setattr(probe.path()).err()?;
    Some(format!("needs file_setattr(2), Linux 6.17 or later: {error}"))
}

#[test]
fn the_bit_cleared_through_a_descriptor_older_than_the_daemon_is_set_again() {
    skip_unless!(not_root());
    let builder = Guard::on_disk().file("main.py", GOOD);
    let old = std::cell::OnceCell::new();
    let builder = builder.prepare(|dir| {
        let _ = old.set(File::open(dir.join("main.py")).unwrap());
    });
    let guard = builder.start();
    let seq = guard.last_seq();
    let (old, ino) = (old.get().unwrap(), inode(&guard.file()));
    let flags = rustix::fs::ioctl_getflags(old).unwrap();
    assert!(flags.contains(IFlags::IMMUTABLE));
    rustix::fs::ioctl_setflags(old, flags - IFlags::IMMUTABLE).unwrap();
    guard.wait_whole();
    assert_eq!(inode(&guard.file()), ino);
    incident_of(&guard, &guard.file(), seq).assert_only(&[]).assert_healed().assert_honest();
}

#[test]
fn an_append_only_bit_that_was_added_is_taken_away() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; chattr +a "$FILE""#)
        .kinds(METADATA)
        .keeps_inode()
        .also(assert_not_append_only)
        .check();
}

#[test]
fn a_file_written_and_made_append_only_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE"; chattr +a "$FILE""#)
        .kinds(WRITE)
        .evidence(MARKER)
        .also(assert_not_append_only)
        .check();
}

fn assert_not_append_only(guard: &Guard) {
    let file = File::open(guard.file()).unwrap();
    let flags = rustix::fs::ioctl_getflags(&file).unwrap();
    assert!(!flags.contains(IFlags::APPEND), "{flags:?}");
}

#[test]
fn a_file_written_and_locked_again_by_the_tamperer_is_whole_again() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE"; chattr +i "$FILE""#)
        .kinds(WRITE)
        .evidence(MARKER)
        .check();
}

//! The file reached by another name or covered by another mount.

use std::os::unix::fs::FileExt as _;

use super::{WRITE, with_evil};
use crate::common::{self, GOOD, Guard, MARKER, Route, incident_of, not_root, skip_unless};

#[test]
fn a_write_through_another_name_of_the_file_is_undone_in_place() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        guard.write_surely(&guard.path("other-name"), |file| file.write_all_at(MARKER, 2));
    })
    .with(|builder| {
        builder.file("main.py", GOOD).prepare(|dir| {
            std::fs::hard_link(dir.join("main.py"), dir.join("other-name")).unwrap();
        })
    })
    .kinds(WRITE)
    .evidence(MARKER)
    .keeps_inode()
    .also(|guard| assert_eq!(std::fs::read(guard.path("other-name")).unwrap(), GOOD))
    .check();
}

#[test]
fn a_shell_that_writes_through_another_name_is_undone_in_place() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$DIR/other-name"; echo TAMPERED >> "$DIR/other-name""#)
        .with(|builder| {
            builder.file("main.py", GOOD).prepare(|dir| {
                std::fs::hard_link(dir.join("main.py"), dir.join("other-name")).unwrap();
            })
        })
        .kinds(WRITE)
        .evidence(MARKER)
        .keeps_inode()
        .check();
}

#[test]
fn a_file_that_is_itself_a_mount_point_is_healed_in_place() {
    skip_unless!(not_root());
    let guard = Guard::on_disk()
        .bystander("source", GOOD)
        .prepare(|dir| {
            common::write_old(&dir.join("main.py"), b"below");
            let (source, target) = (dir.join("source"), dir.join("main.py"));
            common::must("mount", &["--bind".as_ref(), source.as_ref(), target.as_ref()]);
        })
        .protect("main.py")
        .start();
    let seq = guard.last_seq();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    assert_eq!(std::fs::read(guard.path("source")).unwrap(), GOOD);
    incident_of(&guard, &guard.file(), seq).assert_only(WRITE).assert_healed();
    assert!(guard.quarantine_holds(MARKER));
}

#[test]
fn a_file_covered_by_a_bind_mount_is_uncovered() {
    skip_unless!(not_root());
    Route::shell(r#"mount --bind "$DIR/evil" "$FILE""#)
        .with(with_evil)
        .kinds(&["shadowed"])
        .keeps_inode()
        .nameless()
        .check();
}

#[test]
fn a_directory_covered_by_a_mount_is_uncovered() {
    skip_unless!(not_root());
    Route::shell(r#"mount -t tmpfs none "$DIR/app"; echo TAMPERED > "$DIR/app/main.py""#)
        .with(|builder| builder.file("app/main.py", GOOD))
        .kinds(&["shadowed", "deleted", "replaced", "content-changed", "metadata-changed"])
        .keeps_inode()
        .nameless()
        .check();
}

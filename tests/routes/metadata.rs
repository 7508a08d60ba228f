//! Metadata alone: repaired on the inode that is there, content untouched.

use std::os::unix::fs::{FileExt as _, PermissionsExt};

use super::{METADATA, WRITE};
use crate::common::{self, GOOD, MARKER, Route, missing, not_root, skip_unless};

#[test]
fn a_mode_that_was_changed_is_put_right() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; chmod 4777 "$FILE""#).kinds(METADATA).keeps_inode().check();
}

#[test]
fn an_owner_that_was_changed_is_put_right() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; chown 99:99 "$FILE""#).kinds(METADATA).keeps_inode().check();
}

#[test]
fn times_that_were_changed_are_put_right() {
    skip_unless!(not_root());
    Route::shell(r#"chattr -i "$FILE"; touch "$FILE""#).kinds(METADATA).keeps_inode().check();
}

#[test]
fn an_attribute_that_was_changed_is_put_right() {
    skip_unless!(not_root().or_else(|| missing(&["setfattr"])));
    Route::shell(
        r#"chattr -i "$FILE"; setfattr -x user.steadfast-test "$FILE"
           setfattr -n user.evil -v TAMPERED "$FILE""#,
    )
    .kinds(METADATA)
    .keeps_inode()
    .check();
}

#[test]
fn an_acl_that_was_added_is_taken_away() {
    skip_unless!(not_root().or_else(|| missing(&["setfacl"])));
    Route::shell(r#"chattr -i "$FILE"; setfacl -m u:99:rwx "$FILE""#)
        .kinds(METADATA)
        .keeps_inode()
        .check();
}

#[test]
fn an_acl_that_was_taken_away_is_put_back() {
    skip_unless!(not_root().or_else(|| missing(&["setfacl"])));
    Route::shell(r#"chattr -i "$FILE"; setfacl -b "$FILE""#)
        .with(|builder| {
            builder.file("main.py", GOOD).prepare(|dir| {
                let file = dir.join("main.py");
                let args = ["-m".as_ref(), "u:77:r,g:88:rw".as_ref(), file.as_os_str()];
                common::must("setfacl", &args);
            })
        })
        .kinds(METADATA)
        .keeps_inode()
        .check();
}

#[test]
fn a_capability_that_was_added_is_taken_away() {
    skip_unless!(not_root().or_else(|| missing(&["setcap"])));
    Route::shell(r#"chattr -i "$FILE"; setcap cap_setuid+ep "$FILE""#)
        .kinds(METADATA)
        .keeps_inode()
        .check();
}

#[test]
fn capabilities_and_setuid_survive_a_change_of_the_content() {
    skip_unless!(not_root().or_else(|| missing(&["setcap"])));
    Route::surely(|guard| guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2)))
        .with(|builder| {
            builder.file("main.py", GOOD).prepare(|dir| {
                let file = dir.join("main.py");
                std::fs::set_permissions(&file, PermissionsExt::from_mode(0o6755)).unwrap();
                let args = ["cap_net_bind_service+ep".as_ref(), file.as_os_str()];
                common::must("setcap", &args);
            })
        })
        .kinds(WRITE)
        .evidence(MARKER)
        .check();
}

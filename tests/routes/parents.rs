//! What is done to the directories above the file.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};

use rustix::fs::{CWD, IFlags, RenameFlags};

use super::{REPLACE, WRITE};
use crate::common::{
    Builder, GOOD, Guard, MARKER, Route, cleared_surely, is_immutable, not_root, set_flags,
    skip_unless,
};

fn nested(builder: Builder) -> Builder {
    builder.file("app/conf/main.py", GOOD).bystander("app/conf/sibling", b"mine").prepare(|dir| {
        std::fs::set_permissions(dir.join("app"), PermissionsExt::from_mode(0o2751)).unwrap();
        std::os::unix::fs::chown(dir.join("app/conf"), Some(55), Some(66)).unwrap();
    })
}

fn assert_parents_stand(guard: &Guard) {
    let facts = |name: &str| {
        let metadata = std::fs::symlink_metadata(guard.path(name)).unwrap();
        (metadata.is_dir(), metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
    };
    assert_eq!(facts("app"), (true, 0o2751, 0, 0));
    assert_eq!(facts("app/conf"), (true, 0o755, 55, 66));
}

#[test]
fn a_parent_that_was_renamed_away_is_put_back() {
    skip_unless!(not_root());
    Route::shell(r#"mv "$DIR/app" "$DIR/elsewhere""#)
        .with(nested)
        .kinds(&["moved", "deleted"])
        // `mv` opens nothing and is gone at once.
        .nameless()
        .also(|guard| {
            assert_parents_stand(guard);
            assert_eq!(std::fs::read(guard.path("app/conf/sibling")).unwrap(), b"mine");
        })
        .check();
}

#[test]
fn a_parent_that_was_removed_is_made_again() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        let file = guard.file();
        cleared_surely(guard, &file, || std::fs::remove_dir_all(guard.path("app")));
    })
    .with(nested)
    .kinds(&["moved", "deleted"])
    .also(assert_parents_stand)
    .check();
}

#[test]
fn a_parent_swapped_for_another_with_an_evil_file_is_put_back() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        let (app, evil) = (guard.path("app"), guard.path("evil"));
        rustix::fs::renameat_with(CWD, &app, CWD, &evil, RenameFlags::EXCHANGE).unwrap();
    })
    .with(|builder| nested(builder).bystander("evil/conf/main.py", b"TAMPERED"))
    .kinds(REPLACE)
    .also(assert_parents_stand)
    .check();
}

#[test]
fn a_parent_swapped_for_a_symlink_does_not_lead_a_write_elsewhere() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        let (app, link) = (guard.path("app"), guard.path("link"));
        rustix::fs::renameat_with(CWD, &app, CWD, &link, RenameFlags::EXCHANGE).unwrap();
    })
    .with(|builder| {
        nested(builder).bystander("etc/conf/main.py", b"precious").prepare(|dir| {
            symlink(dir.join("etc"), dir.join("link")).unwrap();
        })
    })
    .kinds(REPLACE)
    .also(|guard| {
        assert_parents_stand(guard);
        let precious = guard.path("etc/conf/main.py");
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
        assert_ne!(is_immutable(&precious), Some(true));
    })
    .check();
}

#[test]
fn a_parent_made_immutable_by_the_tamperer_does_not_stop_the_heal() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        let file = guard.file();
        cleared_surely(guard, &file, || {
            std::fs::remove_file(&file)?;
            set_flags(&guard.path("app/conf"), |flags| flags | IFlags::IMMUTABLE)
        });
    })
    .with(nested)
    .kinds(&["deleted", "replaced"])
    .check();
}

#[test]
fn a_write_under_a_parent_made_immutable_is_undone() {
    skip_unless!(not_root());
    Route::shell(
        r#"chattr -i "$FILE"; echo TAMPERED >> "$FILE"; chattr +i "$DIR/app/conf" "$DIR/app""#,
    )
    .with(nested)
    .kinds(WRITE)
    .evidence(MARKER)
    .check();
}

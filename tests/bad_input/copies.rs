//! Damaged copies are found before one is ever put in place.

use std::path::Path;

use super::{assert_refused, sandbox};
use crate::common::{self, GOOD, Guard, MARKER, Place, Sandbox, not_root, skip_unless, text};

/// Changes one byte of every copy of [`GOOD`] below `root` except `original`; how many.
fn damage_copies(root: &Path, original: &Path) -> usize {
    let mut damaged = 0;
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            damaged += damage_copies(&path, original);
        } else if kind.is_file() && path != original && std::fs::read(&path).unwrap() == GOOD {
            common::chattr("-i", &path);
            let mut bytes = GOOD.to_vec();
            bytes[3] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    damaged
}

fn assert_damage_never_placed(file: &Path) {
    let now = std::fs::read(file).unwrap_or_default();
    let mut damaged = GOOD.to_vec();
    damaged[3] ^= 1;
    assert_ne!(now, damaged, "a damaged copy was put in place");
}

#[test]
fn a_damaged_copy_in_the_vault_is_found_before_it_is_put_in_place() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(reason) => return common::report_skip(&reason),
    };
    let sandbox = Sandbox::on(place);
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    let vault = damage_copies(&sandbox.state(), &file);
    assert!(vault >= 1, "no copy in {}", sandbox.state().display());
    damage_copies(sandbox.place.mount_point(), &file);

    common::chattr("-i", &file);
    std::fs::write(&file, MARKER).unwrap();
    assert_refused(&sandbox.expect(2, "restore", &file), &["main.py", "damaged"]);
    assert_eq!(std::fs::read(&file).unwrap(), MARKER, "left as it was");
}

#[test]
fn a_daemon_whose_copies_were_damaged_says_so_and_puts_none_in_place() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(reason) => return common::report_skip(&reason),
    };
    let mut guard = Guard::on(place).file("main.py", GOOD).start();
    let file = guard.file();
    assert!(damage_copies(&guard.state(), &file) >= 1);
    damage_copies(guard.place.mount_point(), &file);
    guard.write_surely(&file, |file| std::os::unix::fs::FileExt::write_all_at(file, MARKER, 2));
    common::poll(
        || {
            assert_damage_never_placed(&file);
            guard.events_about(&file).iter().any(|l| l["kind"] == "restore-failed").then_some(())
        },
        || guard.story(),
    );
    assert_damage_never_placed(&file);
    assert!(guard.is_alive());
}

#[test]
fn an_audit_finds_a_damaged_copy() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    assert!(damage_copies(&sandbox.state(), &file) >= 1);
    let audit = sandbox.steadfast(&["audit"]);
    assert_ne!(audit.status.code(), Some(0), "{}", text(&audit.stdout));
    let told = text(&audit.stdout) + &text(&audit.stderr);
    assert!(told.contains("damaged"), "{told}");
}

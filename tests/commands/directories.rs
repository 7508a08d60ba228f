//! A protected directory as a whole: what is new in it is taken in, what is gone let go, and what
//! does not belong there is named. The same without a daemon and with one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::IFlags;

use crate::common::{
    self, Guard, Place, Sandbox, Whole, chattr, is_immutable, not_root, poll, set_flags,
    skip_unless, text,
};

/// A directory with `kept`, `changed`, `gone` and `sub/deep` in it, in `dir`.
fn fill(dir: &Path) {
    std::fs::create_dir_all(dir.join("d/sub")).unwrap();
    for name in ["kept", "changed", "gone", "sub/deep"] {
        common::write_old(&dir.join("d").join(name), name.as_bytes());
    }
}

/// [`fill`], protected by hand, with no daemon.
fn offline() -> Sandbox {
    let sandbox = Sandbox::on(Place::disk());
    fill(sandbox.dir());
    sandbox.expect(0, "protect", &sandbox.path("d"));
    sandbox
}

/// [`fill`], guarded by a daemon that heals nothing, so that changes stay until they are accepted.
fn guarded(policy: &str) -> Guard {
    let policy = format!("restore = false\nalert = \"digest\"\n{policy}");
    Guard::on_disk().prepare(fill).protect("d").policy(&policy).start()
}

/// An application is deployed anew: a file changes, one goes, files and directories come.
fn deploy(dir: &Path) {
    let unlock = |name: &str| set_flags(&dir.join(name), |flags| flags - IFlags::IMMUTABLE);
    // The daemon sets the bit again, so it takes a few tries.
    poll(
        || {
            unlock("d/changed").unwrap();
            std::fs::write(dir.join("d/changed"), "otherwise").ok()
        },
        || "writing".into(),
    );
    poll(
        || {
            unlock("d/gone").unwrap();
            std::fs::remove_file(dir.join("d/gone")).ok()
        },
        || "removing".into(),
    );
    std::fs::create_dir_all(dir.join("d/more/below")).unwrap();
    std::fs::write(dir.join("d/new"), "new").unwrap();
    std::fs::write(dir.join("d/more/below/too"), "too").unwrap();
    std::os::unix::fs::symlink("kept", dir.join("d/link")).unwrap();
}

/// After `accept`: everything is known good and guarded alike.
fn assert_taken_in(sandbox: &Sandbox) {
    sandbox.expect(0, "audit", &sandbox.path("d"));
    let audit = sandbox.json(0, &["audit".as_ref(), "--json".as_ref()]);
    // d, kept, changed, sub, sub/deep; new, more, more/below, more/below/too, link.
    assert_eq!(audit["checked"], 10, "{audit}");
    for name in ["d/new", "d/more/below/too", "d/changed"] {
        assert_eq!(is_immutable(&sandbox.path(name)), Some(true), "{name}");
    }
    let kinds = |name: &str| -> Vec<String> {
        let about = sandbox.events_about(&sandbox.path(name));
        about.iter().map(|line| line["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert!(kinds("d/new").contains(&"protected".into()), "{:?}", kinds("d/new"));
    assert!(kinds("d/gone").contains(&"released".into()), "{:?}", kinds("d/gone"));
    assert!(kinds("d/changed").contains(&"accepted".into()), "{:?}", kinds("d/changed"));
}

#[test]
fn accepting_a_directory_takes_in_what_is_new_and_lets_go_what_is_gone() {
    skip_unless!(not_root());
    let sandbox = offline();
    deploy(sandbox.dir());
    let told = text(&sandbox.expect(0, "accept", &sandbox.path("d")).stdout);
    assert!(told.contains("d/new is protected, and immutable"), "{told}");
    assert!(told.contains("d/gone is gone, and no longer protected"), "{told}");
    assert!(told.contains("d/changed what is there now is known good"), "{told}");
    assert_taken_in(&sandbox);
    let text = std::fs::read(sandbox.path("d/changed")).unwrap();
    assert_eq!(text, b"otherwise");
}

#[test]
fn the_daemon_takes_in_a_directory_as_it_is_and_guards_it() {
    skip_unless!(not_root());
    let mut guard = guarded("");
    deploy(guard.dir());
    guard.expect(0, "accept", &guard.path("d"));
    assert_taken_in(&guard);
    assert_eq!(guard.status()["protected"], 10, "{}", guard.story());

    // It stays so over a restart, and is guarded.
    guard.stop();
    let new = guard.path("d/new");
    chattr("-i", &new);
    guard.start();
    assert_eq!(guard.status()["protected"], 10);
    poll(|| (is_immutable(&new) == Some(true)).then_some(()), || guard.story());
}

#[test]
fn a_single_new_file_of_a_directory_can_be_accepted() {
    skip_unless!(not_root());
    let guard = guarded("");
    let offline = offline();
    for sandbox in [&*guard, &offline] {
        deploy(sandbox.dir());
        for name in ["d/new", "d/more/below/too"] {
            sandbox.expect(0, "accept", &sandbox.path(name));
            assert_eq!(is_immutable(&sandbox.path(name)), Some(true), "{name}");
        }
        let told = text(&sandbox.expect(1, "audit", &sandbox.path("d")).stdout);
        assert!(!told.contains("d/new") && !told.contains("d/more"), "{told}");
        assert!(told.contains("d/link") && told.contains("d/gone"), "{told}");
        sandbox.expect(0, "accept", &sandbox.path("d/gone"));
        let told = text(&sandbox.expect(2, "accept", &sandbox.path("d/typo")).stderr);
        assert!(told.contains("d/typo does not exist"), "{told}");
    }
}

#[test]
fn a_directory_is_restored_and_what_does_not_belong_there_is_named() {
    skip_unless!(not_root());
    let guard = guarded("");
    let offline = offline();
    for sandbox in [&*guard, &offline] {
        deploy(sandbox.dir());
        let output = sandbox.expect(1, "restore", &sandbox.path("d"));
        let told = text(&output.stderr);
        assert!(told.contains("3 names do not belong"), "{told}");
        for name in ["d/new", "d/more", "d/link"] {
            let path = sandbox.path(name);
            assert!(told.contains(path.to_str().unwrap()), "{name}: {told}");
            assert!(path.symlink_metadata().is_ok(), "{name} was not to be touched");
        }
        assert_eq!(std::fs::read(sandbox.path("d/changed")).unwrap(), b"changed");
        assert_eq!(std::fs::read(sandbox.path("d/gone")).unwrap(), b"gone");
        assert_eq!(is_immutable(&sandbox.path("d/gone")), Some(true));

        let told = text(&sandbox.expect(2, "restore", &sandbox.path("d/new")).stderr);
        assert!(told.contains("does not belong in the protected directory"), "{told}");
    }
}

#[test]
fn a_directory_that_was_removed_is_restored_with_all_that_was_in_it() {
    skip_unless!(not_root());
    let guard = guarded("");
    let offline = offline();
    for sandbox in [&*guard, &offline] {
        let dir = sandbox.path("d");
        let good = Whole::of(&dir.join("sub/deep")).unwrap();
        poll(
            || {
                for name in ["kept", "changed", "gone", "sub/deep"] {
                    let _ = set_flags(&dir.join(name), |flags| flags - IFlags::IMMUTABLE);
                }
                let _ = std::fs::remove_dir_all(&dir);
                (!dir.exists()).then_some(())
            },
            || "removing it".into(),
        );
        let told = text(&sandbox.expect(2, "accept", &dir).stderr);
        assert!(told.contains("is gone") && told.contains("steadfast release"), "{told}");
        sandbox.expect(0, "restore", &dir);
        assert_eq!(good.differences(&dir.join("sub/deep")), "");
        sandbox.expect(0, "audit", &dir);
    }
}

#[test]
fn a_restored_directory_sends_strangers_to_the_quarantine_where_the_policy_says_so() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    fill(sandbox.dir());
    let dir = sandbox.path("d");
    sandbox.configure(&format!(
        "{}[[protect]]\npaths = [{dir:?}]\nunexpected = \"quarantine\"\n",
        sandbox.daemon_table("")
    ));
    let mut guard = Guard::of(sandbox);
    guard.start();
    guard.stop();
    std::fs::write(dir.join("stranger"), "MALWARE").unwrap();
    let told = text(&guard.expect(0, "restore", &dir).stdout);
    assert!(told.contains("stranger did not belong there"), "{told}");
    assert!(told.contains("/d is as it should be already, but for 1 name"), "{told}");
    assert!(told.contains("/d/sub is as it should be already\n"), "{told}");
    assert!(!dir.join("stranger").exists());
    assert!(guard.quarantine_holds(b"MALWARE"));
    guard.expect(0, "audit", &dir);
}

#[test]
fn a_directory_with_another_mode_is_restored_as_itself_with_all_that_is_in_it() {
    skip_unless!(not_root());
    let mut guard = guarded("");
    let dir = guard.path("d");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let (good, inodes) = (mode(&dir), [dir.clone(), dir.join("kept")].map(|p| common::inode(&p)));
    for daemon in [true, false] {
        if !daemon {
            guard.stop();
        }
        std::fs::write(dir.join("stranger"), "x").unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o711)).unwrap();
        let told = text(&guard.expect(1, "restore", &dir).stdout);
        assert!(told.contains("/d is as it should be again"), "{told}");
        assert_eq!(mode(&dir), good, "{}", guard.story());
        assert_eq!([dir.clone(), dir.join("kept")].map(|p| common::inode(&p)), inodes);
        assert_eq!(std::fs::read(dir.join("stranger")).unwrap(), b"x");
        let told = text(&guard.expect(1, "restore", &dir).stdout);
        assert!(told.contains("/d is as it should be already"), "{told}");
    }
}

#[test]
fn what_restore_says_of_a_directory_fits_what_it_says_of_strangers_in_it() {
    skip_unless!(not_root());
    let mut guard = guarded("");
    let dir = guard.path("d");
    let unseal = || std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o711)).unwrap();
    for daemon in [true, false] {
        if !daemon {
            guard.stop();
        }
        let said = |code, what: &str| {
            let told = text(&guard.expect(code, "restore", &dir).stdout);
            let line = format!("{} is as it should be {what}\n", dir.display());
            assert!(told.starts_with(&line), "{line}{told}");
            assert!(told.contains("/d/sub is as it should be already\n"), "{told}");
        };
        said(0, "already");
        unseal();
        said(0, "again");
        std::fs::write(dir.join("stranger"), "x").unwrap();
        said(1, "already, but for 1 name in it that does not belong there");
        unseal();
        said(1, "again, but for 1 name in it that does not belong there");
        std::fs::create_dir(dir.join("strange")).unwrap();
        said(1, "already, but for 2 names in it that do not belong there");
        let json = guard.json(1, &["restore".as_ref(), "--json".as_ref(), dir.as_os_str()]);
        let message = json["paths"][0]["message"].as_str().unwrap();
        assert!(message.ends_with("but for 2 names in it that do not belong there"), "{json}");
        assert_eq!(json["strangers"].as_array().unwrap().len(), 2, "{json}");
        std::fs::remove_file(dir.join("stranger")).unwrap();
        std::fs::remove_dir(dir.join("strange")).unwrap();
    }
}

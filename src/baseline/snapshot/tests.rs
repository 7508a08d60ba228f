use std::cell::Cell;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::baseline::sha256;
use crate::baseline::vault::tests::Room;
use crate::sys::test::{Unlock, disk, rooms};

const QUIET: &dyn Fn(u64) = &|_| ();

#[test]
fn every_fact_of_a_file_is_taken() {
    for room in rooms() {
        let path = room.path().join(OsStr::from_bytes(b"f\xff\n"));
        std::fs::write(&path, "content").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4750)).unwrap();
        std::fs::hard_link(&path, room.path().join("other")).unwrap();
        let _unlock = Unlock(path.clone());
        let held = open_path_at(open_dir(room.path()).unwrap().as_fd(), path.file_name().unwrap())
            .unwrap();
        let tags = [(b"user.tag".to_vec(), vec![0, 255])].into();
        xattr::replace_all(held.as_fd(), &tags).unwrap();
        flags::set_immutable(held.as_fd(), true).unwrap();

        let facts = take(&path, QUIET).unwrap();
        let stat = crate::sys::stat::stat(&path).unwrap();
        assert_eq!(facts.kind, FileKind::File);
        assert_eq!((facts.size, facts.sha256), (7, Some(sha256(b"content"))));
        assert_eq!((facts.mode, facts.nlink), (0o4750, 2));
        assert_eq!((facts.dev, facts.ino, facts.mtime), (stat.dev, stat.ino, stat.mtime));
        assert_eq!(facts.xattrs, tags);
        assert_eq!(facts.flags.unwrap() & crate::judge::FS_IMMUTABLE, crate::judge::FS_IMMUTABLE);
        assert_eq!(inspect(&path).unwrap(), Facts { sha256: None, ..facts });
    }
}

#[test]
fn content_goes_into_the_vault_in_the_same_reading() {
    let room = disk();
    let path = room.path().join("f");
    let content = b"x".repeat(1_000_000);
    std::fs::write(&path, &content).unwrap();
    let state = Room::new();
    let vault = state.vault();
    let read = Cell::new(0);
    let facts = take_into(&path, &vault, &|bytes| read.set(read.get() + bytes)).unwrap();
    let digest = facts.sha256.unwrap();
    assert_eq!((digest, read.get()), (sha256(&content), 1_000_000));
    assert_eq!(vault.verify(&digest).unwrap(), 1_000_000);
}

#[test]
fn a_symlink_has_a_target_and_a_directory_no_content() {
    for room in rooms() {
        let (link, dir) = (room.path().join("l"), room.path().join("d"));
        symlink(OsStr::from_bytes(b"to\xfe"), &link).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let facts = take(&link, QUIET).unwrap();
        assert_eq!((facts.kind, facts.size, facts.sha256), (FileKind::Symlink, 0, None));
        assert_eq!((facts.target.clone(), facts.flags), (Some(b"to\xfe".to_vec()), None));
        let facts = take(&dir, QUIET).unwrap();
        assert_eq!((facts.kind, facts.size, facts.sha256), (FileKind::Directory, 0, None));
    }
}

#[test]
fn what_has_no_content_to_protect_is_refused_without_being_opened() {
    let room = disk();
    let fifo = room.path().join("p");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = room.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for (path, kind) in [
        (fifo.as_path(), FileKind::Fifo),
        (&socket, FileKind::Socket),
        (Path::new("/dev/null"), FileKind::CharacterDevice),
    ] {
        let error = take(path, QUIET).unwrap_err();
        assert!(matches!(error, SnapshotError::Unsuitable { kind: found, .. } if found == kind));
        assert!(error.to_string().contains(&format!("is a {kind}")), "{error}");
    }
}

#[test]
fn each_wrong_path_has_its_own_sentence() {
    let room = disk();
    std::fs::write(room.path().join("f"), "x").unwrap();
    std::fs::create_dir(room.path().join("d")).unwrap();
    symlink("d", room.path().join("l")).unwrap();
    let error = |path: &Path| take(path, QUIET).unwrap_err();
    for gone in ["gone", "gone/f", "f/x"] {
        let error = error(&room.path().join(gone));
        assert!(matches!(error, SnapshotError::Missing(_)), "{gone}: {error}");
    }
    assert!(matches!(error(&room.path().join("l/f")), SnapshotError::Symlinked(_)));
    for bad in ["/", "relative", "", "/tmp/..", "/tmp/../etc/passwd"] {
        let error = error(Path::new(bad));
        assert!(matches!(error, SnapshotError::NotAPath(_)), "{bad:?}: {error}");
    }
}

#[test]
fn a_change_during_the_reading_is_noticed_and_the_file_read_again() {
    let room = disk();
    let path = room.path().join("f");
    std::fs::write(&path, "before").unwrap();
    let changed = Cell::new(false);
    let state = Room::new();
    let facts = take_into(&path, &state.vault(), &|_| {
        if !changed.replace(true) {
            std::fs::write(&path, "after!").unwrap();
        }
    })
    .unwrap();
    assert_eq!(facts.sha256, Some(sha256(b"after!")));
}

#[test]
fn a_file_that_never_holds_still_is_given_up() {
    let room = disk();
    let path = room.path().join("f");
    let count = Cell::new(0_u32);
    let state = Room::new();
    let vault = state.vault();
    let changes: [&dyn Fn(); 3] = [
        &|| std::fs::write(&path, format!("{:06}", count.get())).unwrap(),
        // It grows ahead of the reader, and would go on for ever.
        &|| std::fs::write(&path, "x".repeat(count.get() as usize + 10)).unwrap(),
        &|| {
            let other = room.path().join("other");
            std::fs::write(&other, "before").unwrap();
            std::fs::rename(&other, &path).unwrap();
        },
    ];
    for change in changes {
        std::fs::write(&path, "before").unwrap();
        let error = take_into(&path, &vault, &|_| {
            count.set(count.get() + 1);
            change();
        })
        .unwrap_err();
        assert!(matches!(error, SnapshotError::KeptChanging(_)), "{error}");
    }
}

#[test]
fn the_stat_of_a_snapshot_is_the_one_of_an_untouched_file() {
    let room = disk();
    let path = room.path().join("f");
    std::fs::write(&path, "x").unwrap();
    let found = snapshot(&path, Content::Hash(0, u64::MAX), QUIET).unwrap();
    assert_eq!(crate::sys::stat::stat(&path).unwrap(), found.stat);
    std::fs::write(&path, "longer").unwrap();
    assert_ne!(crate::sys::stat::stat(&path).unwrap(), found.stat);
}

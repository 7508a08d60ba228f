use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tempfile::TempDir;

use super::*;
use crate::baseline::sha256;
use crate::sys::stat::stat;
use crate::sys::test::{disk, memory};

/// A state directory whose vault can be removed when the test is over.
pub(in crate::baseline) struct Room(TempDir);

impl Room {
    pub(in crate::baseline) fn new() -> Self {
        Self(disk())
    }

    pub(in crate::baseline) fn vault(&self) -> Vault {
        Vault::open(self.0.path()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let found = std::fs::read_dir(self.0.path().join("vault")).unwrap();
        found.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn soften(&self) {
        let Ok(found) = std::fs::read_dir(self.0.path().join("vault")) else { return };
        for entry in found.flatten() {
            if entry.file_type().unwrap().is_file() {
                let file = File::open(entry.path()).unwrap();
                flags::set_immutable(file.as_fd(), false).unwrap();
            }
        }
    }

    fn damage(&self, digest: &Digest, content: &[u8]) {
        self.soften();
        std::fs::write(self.0.path().join("vault").join(digest.to_string()), content).unwrap();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.soften();
    }
}

/// Has the vault keep `content`.
fn keep(vault: &Vault, content: &[u8]) -> Result<(Digest, u64), VaultError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    vault.store(&file, u64::MAX, &|_| ())
}

fn content_of(vault: &Vault, digest: &Digest, size: u64) -> Result<Vec<u8>, VaultError> {
    let mut target = tempfile::tempfile().unwrap();
    vault.copy_verified(digest, size, &mut target)?;
    target.rewind().unwrap();
    let mut found = Vec::new();
    target.read_to_end(&mut found).unwrap();
    Ok(found)
}

#[test]
fn content_is_kept_under_its_digest_immutable_and_for_root_alone() {
    for room in [disk(), memory()].map(Room) {
        let vault = room.vault();
        let content = b"content".repeat(100_000);
        let (digest, size) = keep(&vault, &content[..]).unwrap();
        assert_eq!((digest, size), (sha256(&content), 700_000));
        let path = vault.path_of(&digest);
        assert_eq!(stat(&path).unwrap().immutable, Some(true));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o400);
        let mode = room.0.path().join("vault").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        assert_eq!(content_of(&vault, &digest, size).unwrap(), content);
        assert_eq!(vault.verify(&digest).unwrap(), size);
        assert_eq!(vault.digests().unwrap(), [digest]);
    }
}

#[test]
fn the_same_content_is_kept_once() {
    let room = Room::new();
    let vault = room.vault();
    let (digest, _) = keep(&vault, &b"same"[..]).unwrap();
    let before = vault.path_of(&digest).metadata().unwrap().ino();
    assert_eq!(keep(&vault, &b"same"[..]).unwrap(), (digest, 4));
    assert_eq!(vault.path_of(&digest).metadata().unwrap().ino(), before);
    assert_eq!(room.names(), [digest.to_string()]);
}

#[test]
fn damaged_content_is_refused_and_says_what_to_do() {
    let room = Room::new();
    let vault = room.vault();
    let (digest, size) = keep(&vault, &b"good"[..]).unwrap();
    for rubbish in [&b"evil"[..], b"goodgood", b"go", b""] {
        room.damage(&digest, rubbish);
        let error = content_of(&vault, &digest, size).unwrap_err();
        assert!(matches!(error, VaultError::Damaged { .. }), "{error}");
        assert!(matches!(vault.verify(&digest), Err(VaultError::Damaged { .. })));
        assert!(error.to_string().contains("steadfast accept PATH"), "{error}");
    }
}

#[test]
fn storing_the_content_again_mends_a_damaged_copy() {
    let room = Room::new();
    let vault = room.vault();
    let (digest, size) = keep(&vault, &b"good"[..]).unwrap();
    room.damage(&digest, b"evil");
    flags::set_immutable(File::open(vault.path_of(&digest)).unwrap().as_fd(), true).unwrap();
    keep(&vault, &b"good"[..]).unwrap();
    assert_eq!(content_of(&vault, &digest, size).unwrap(), b"good");
    assert_eq!(stat(&vault.path_of(&digest)).unwrap().immutable, Some(true));
    assert_eq!(room.names().len(), 1);
}

#[test]
fn content_is_removed_although_it_is_immutable() {
    let room = Room::new();
    let vault = room.vault();
    let (digest, _) = keep(&vault, &b"x"[..]).unwrap();
    assert!(vault.remove(&digest).unwrap());
    assert!(!vault.remove(&digest).unwrap());
    assert!(matches!(vault.reader(&digest), Err(VaultError::Missing { .. })));
    assert!(room.names().is_empty());
}

#[test]
fn content_that_nothing_refers_to_is_collected() {
    let room = Room::new();
    let vault = room.vault();
    let (kept, _) = keep(&vault, &b"kept"[..]).unwrap();
    keep(&vault, &b"released"[..]).unwrap();
    assert_eq!(vault.retain(|digest| *digest == kept).unwrap(), 1);
    assert_eq!(vault.digests().unwrap(), [kept]);
}

#[test]
fn a_source_that_fails_leaves_nothing_behind() {
    let room = Room::new();
    let source = room.0.path().join("source");
    std::fs::write(&source, "begun").unwrap();
    // It is not open for reading.
    let broken = File::options().write(true).open(&source).unwrap();
    let error = room.vault().store(&broken, u64::MAX, &|_| ()).unwrap_err();
    assert!(matches!(error, VaultError::Source(_)), "{error}");
    assert!(room.names().is_empty());
}

#[test]
fn what_a_crash_left_is_tidied_and_what_is_under_way_is_not() {
    let room = Room::new();
    let vault = room.vault();
    let (digest, _) = keep(&vault, &b"x"[..]).unwrap();
    let under_way = vault.incoming().unwrap();
    room.soften();
    std::fs::write(room.0.path().join("vault/.incoming-1-1"), "half").unwrap();

    room.vault();
    let mut names = room.names();
    names.sort();
    assert_eq!(names, [under_way.name.clone(), digest.to_string()]);
    assert_eq!(stat(&vault.path_of(&digest)).unwrap().immutable, Some(true));
}

#[test]
fn nothing_but_a_plain_file_is_taken_for_content() {
    let room = Room::new();
    let vault = room.vault();
    let [fifo, link, dir] = [b"1", b"2", b"3"].map(|content| sha256(content));
    nix::unistd::mkfifo(&vault.path_of(&fifo), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", vault.path_of(&link)).unwrap();
    std::fs::create_dir(vault.path_of(&dir)).unwrap();
    for digest in [fifo, link, dir] {
        assert!(vault.verify(&digest).is_err());
        assert!(content_of(&vault, &digest, 1).is_err());
    }
    flags::set_immutable(open_dir(&vault.path_of(&dir)).unwrap().as_fd(), false).unwrap();
}

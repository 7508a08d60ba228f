//! What the commands find, on real files and a real baseline. Nothing here needs root.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::audit::examine;
use super::diff::{Other, compare};
use super::look::chosen;
use crate::baseline::{Baseline, Origin, Record, Vault, snapshot};
use crate::config::Config;
use crate::judge::Policy;

/// A state directory with a baseline, and files beside it.
struct Room {
    _directory: tempfile::TempDir,
    root: PathBuf,
    config: Config,
}

impl Room {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let mut config = Config::default();
        config.daemon.state = root.join("state");
        fs::create_dir(&config.daemon.state).unwrap();
        Self { _directory: directory, root, config }
    }

    /// The vault locks what it keeps.
    fn unlock_vault(&self) {
        let Ok(copies) = fs::read_dir(self.config.daemon.state.join("vault")) else { return };
        copies.flatten().for_each(|copy| unlock(&copy.path()));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// Takes what is at `path` for known good, without the immutable bit.
    fn protect(&self, path: &Path) -> Record {
        let baseline = Baseline::open(&self.config.daemon.state).unwrap();
        let vault = Vault::open(&self.config.daemon.state).unwrap();
        let facts = snapshot::take_into(path, &vault, &|_| ()).unwrap();
        let record = Record {
            path: path.into(),
            facts,
            policy: Policy { immutable: false, ..Policy::default() },
            origin: Origin::Command,
            parents: [].into(),
            mount_point: Path::new("/").into(),
            seal: None,
            replica: None,
            protected_at: jiff::Timestamp::UNIX_EPOCH,
        };
        baseline.put(&record).unwrap();
        record
    }

    fn audit(&self) -> Value {
        serde_json::to_value(examine(&self.config, &[]).unwrap()).unwrap()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.unlock_vault();
    }
}

#[test]
fn an_audit_of_whole_files_has_no_findings() {
    let room = Room::new();
    room.protect(&room.write("a", b"x"));
    let answer = room.audit();
    assert_eq!(answer["findings"], json!([]));
    assert_eq!((&answer["checked"], &answer["drifted"]), (&json!(1), &json!(0)));
    assert_eq!(answer.as_object().unwrap().len(), 5, "{answer}");
}

#[test]
fn an_audit_finds_changes_losses_and_strangers_and_no_more() {
    let room = Room::new();
    let changed = room.write("d/changed", b"x");
    let lost = room.write("d/lost", b"x");
    for path in [room.path("d"), changed.clone(), lost.clone(), room.write("d/whole", b"x")] {
        room.protect(&path);
    }
    fs::write(&changed, b"longer").unwrap();
    fs::remove_file(&lost).unwrap();
    room.write("d/stranger", b"new");
    room.write("d/below/unseen", b"new");
    nix::unistd::mkfifo(&room.path("d/pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let answer = room.audit();
    let found: Vec<_> = answer["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (Path::new(one["path"].as_str().unwrap()).to_owned(), one["kinds"].clone()))
        .collect();
    assert_eq!(
        found,
        [
            (room.path("d/below"), json!(["created"])),
            (changed, json!(["content-changed"])),
            (lost, json!(["deleted"])),
            (room.path("d/stranger"), json!(["created"])),
        ]
    );
    assert_eq!((&answer["checked"], &answer["drifted"]), (&json!(4), &json!(4)));
    let finding = &answer["findings"][1];
    assert_eq!((&finding["expected"]["size"], &finding["actual"]["size"]), (&json!(1), &json!(6)));
}

#[test]
fn a_pipe_or_a_terabyte_in_the_place_of_a_file_holds_up_no_audit() {
    let room = Room::new();
    let (pipe, huge) = (room.write("a", b"x"), room.write("b", b"x"));
    room.protect(&pipe);
    room.protect(&huge);
    fs::remove_file(&pipe).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
    fs::File::options().write(true).open(&huge).unwrap().set_len(1 << 40).unwrap();
    let answer = room.audit();
    assert_eq!(answer["findings"][0]["kinds"], json!(["replaced"]));
    assert_eq!(answer["findings"][1]["kinds"], json!(["content-changed"]));
    assert_eq!(answer["findings"][1]["actual"]["sha256"], Value::Null);
}

#[test]
fn only_what_is_protected_can_be_chosen() {
    let room = Room::new();
    let (inside, other) = (room.write("d/a", b"x"), room.write("b", b"x"));
    room.protect(&inside);
    assert_eq!(chosen(&room.config, &[room.path("d")]).unwrap().len(), 1);
    let refused = chosen(&room.config, &[inside, other]).unwrap_err().to_string();
    assert!(refused.contains("/b is not protected"), "{refused}");
}

#[test]
fn a_diff_shows_metadata_and_lines() {
    let room = Room::new();
    let path = room.write("a", b"one\ntwo\n");
    let record = room.protect(&path);
    let now = |record| compare(&room.config, record, &Other::now(&path)).unwrap();
    assert!(now(&record).differences.is_empty());
    fs::write(&path, b"one\n2\n").unwrap();
    let diff = now(&record).diff.unwrap();
    assert_eq!(diff, "@@ -1,2 +1,2 @@\n one\n-two\n+2\n");
}

#[test]
fn what_is_no_text_or_too_large_is_only_said_to_differ() {
    let room = Room::new();
    let path = room.write("a", b"text");
    let record = room.protect(&path);
    let note = || {
        let comparison = compare(&room.config, &record, &Other::now(&path)).unwrap();
        assert_eq!((comparison.diff, comparison.differences.len()), (None, 1));
        comparison.note.unwrap()
    };
    for binary in [&b"\xff\xfe"[..], b"a\0b"] {
        fs::write(&path, binary).unwrap();
        assert!(note().starts_with("binary"));
    }
    fs::File::create(&path).unwrap().set_len(17 << 20).unwrap();
    assert!(note().starts_with("larger than 16 MiB"));
}

#[test]
fn a_directory_that_was_moved_away_takes_its_files_along() {
    let room = Room::new();
    room.protect(&room.write("d/a", b"x"));
    fs::rename(room.path("d"), room.path("e")).unwrap();
    assert_eq!(room.audit()["findings"][0]["kinds"], json!(["deleted"]));
    std::os::unix::fs::symlink(room.path("e"), room.path("d")).unwrap();
    assert_eq!(room.audit()["findings"][0]["kinds"], json!(["moved"]));
}

#[test]
fn a_damaged_or_missing_copy_is_a_finding() {
    let room = Room::new();
    let record = room.protect(&room.write("a", b"x"));
    let vault = Vault::open(&room.config.daemon.state).unwrap();
    let copy = vault.path_of(&record.facts.sha256.unwrap());
    unlock(&copy);
    fs::write(&copy, b"y").unwrap();
    assert_eq!(room.audit()["findings"][0]["kinds"], json!(["copy-damaged"]));
    unlock(&copy);
    fs::remove_file(&copy).unwrap();
    assert_eq!(room.audit()["findings"][0]["kinds"], json!(["copy-missing"]));
}

/// Clears the immutable bit where there is one.
fn unlock(path: &Path) {
    let file = fs::File::open(path).unwrap();
    let _ = crate::sys::flags::set_immutable(std::os::fd::AsFd::as_fd(&file), false);
}

//! The file reached by another name or covered by another mount.

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use super::{WRITE, with_evil};
use crate::common::{
    self, GOOD, Guard, MARKER, Route, Whole, cleared_surely, incident_of, missing, not_root,
    skip_unless,
};

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

/// Writes, and then has the kernel hold off everybody else who wants to.
const LEASED: &str = "\
import fcntl, os, signal, struct, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
path, get, put, immutable = os.fsencode(sys.argv[1]), 0x80086601, 0x40086602, 0x10
reader = os.open(path, os.O_RDONLY)
while True:
    try:
        flags, = struct.unpack('l', fcntl.ioctl(reader, get, struct.pack('l', 0)))
        fcntl.ioctl(reader, put, struct.pack('l', flags & ~immutable))
        writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        os.pwrite(writer, b'TAMPERED', 2)
        os.close(writer)
        fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        continue
    if os.pread(reader, 8, 2) == b'TAMPERED':
        break
    fcntl.fcntl(reader, fcntl.F_SETLEASE, fcntl.F_UNLCK)
print(flush=True)
sys.stdin.read()
";

#[test]
fn a_lease_on_a_file_with_another_name_holds_off_no_heal() {
    skip_unless!(not_root().or_else(|| missing(&["python3"])));
    let guard = Guard::on_disk()
        .file("main.py", GOOD)
        .prepare(|dir| std::fs::hard_link(dir.join("main.py"), dir.join("other-name")).unwrap())
        .start();
    // Otherwise it is back before the lease can be had.
    guard.signal(Signal::STOP);
    let mut tamperer = Command::new("python3")
        .args(["-c", LEASED])
        .arg(guard.path("other-name"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(tamperer.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    guard.signal(Signal::CONT);
    // The path has an inode of its own now: what was leased keeps what was written.
    let good = || std::fs::read(guard.file()).unwrap_or_default() == GOOD;
    common::poll(|| good().then_some(()), || guard.story());
    drop(tamperer.stdin.take());
    tamperer.wait().unwrap();
}

#[test]
fn another_name_made_for_the_file_does_not_stay_a_way_to_it() {
    skip_unless!(not_root());
    Route::surely(|guard| {
        let (file, other) = (guard.file(), guard.path("other-name"));
        cleared_surely(guard, &file, || match std::fs::hard_link(&file, &other) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        });
    })
    .kinds(&["metadata-changed", "replaced"])
    .also(|guard| {
        let other = guard.path("other-name");
        assert_ne!(common::inode(&other), common::inode(&guard.file()));
        let _ = common::set_flags(&other, |flags| flags - rustix::fs::IFlags::IMMUTABLE);
        std::fs::write(&other, MARKER).unwrap();
        assert_eq!(std::fs::read(guard.file()).unwrap(), GOOD);
    })
    .check();
}

#[test]
fn another_name_that_was_taken_from_the_file_leaves_it_whole_and_at_rest() {
    skip_unless!(not_root());
    let link = |dir: &Path| std::fs::hard_link(dir.join("main.py"), dir.join("other-name"));
    let builder = Guard::on_disk().file("main.py", GOOD).prepare(|dir| link(dir).unwrap());
    let mut guard = builder.start();
    let (file, other) = (guard.file(), guard.path("other-name"));
    let fewer = Whole { nlink: 1, ..guard.good(&file).clone() };
    guard.regard_as_good(&file, fewer);
    let ino = common::inode(&file);
    cleared_surely(&guard, &file, || std::fs::remove_file(&other));
    guard.wait_whole();
    incident_of(&guard, &file, 0).assert_only(&["metadata-changed"]);
    let seq = guard.last_seq();
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &file, seq).assert_only(WRITE).assert_healed();
    assert_eq!(common::inode(&file), ino, "{}", guard.story());
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

#[test]
fn a_file_mounted_into_a_container_is_healed_where_the_container_sees_it() {
    skip_unless!(not_root().or_else(|| missing(&["unshare"])));
    let container = RefCell::new(None);
    let guard = Guard::on_disk()
        .file("main.py", GOOD)
        .prepare(|dir| {
            common::write_old(&dir.join("inside"), b"");
            *container.borrow_mut() = Some(Container::with(dir));
        })
        .start();
    let seq = guard.last_seq();
    guard.write_surely(&guard.file(), |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &guard.file(), seq).assert_only(WRITE).assert_healed();
    let container = container.into_inner().expect("prepared");
    assert_eq!(std::fs::read(container.path(&guard.path("inside"))).unwrap(), GOOD);
}

#[test]
fn a_container_that_got_the_file_just_before_the_tampering_sees_it_healed() {
    skip_unless!(not_root().or_else(|| missing(&["unshare"])));
    let builder = Guard::on_disk().file("main.py", GOOD);
    let guard = builder.prepare(|dir| common::write_old(&dir.join("inside"), b"")).start();
    let (file, inside) = (guard.file(), guard.path("inside"));
    // The first search for such mounts is over then, and the next is long after.
    common::poll(|| (guard.status()["state"] == "watching").then_some(()), || guard.story());
    let container = Container::with(guard.dir());
    let (seq, ino) = (guard.last_seq(), common::inode(&file));
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    let seen = container.path(&inside);
    common::poll(
        || (std::fs::read(&seen).unwrap() == GOOD && common::inode(&file) == ino).then_some(()),
        || format!("{:?}\n{}", std::fs::read(&seen), guard.story()),
    );
    guard.wait_whole();
    let incident = incident_of(&guard, &file, seq);
    incident.assert_only(WRITE).assert_any(WRITE).assert_healed();
    let told = incident.lines.iter().filter_map(|line| line["note"].as_str());
    assert!(told.into_iter().any(|note| note.contains("container")), "{}", guard.story());
    assert!(guard.quarantine_holds(MARKER), "{}", guard.story());
    // From now on it is healed in place.
    let seq = guard.last_seq();
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    incident_of(&guard, &file, seq).assert_only(WRITE).assert_healed();
    assert_eq!((std::fs::read(&seen).unwrap(), common::inode(&file)), (GOOD.to_vec(), ino));
}

/// A process in a mount namespace of its own, in which `inside` shows `main.py`.
struct Container(Child);

impl Container {
    fn with(dir: &Path) -> Self {
        let script = r#"mount --bind "$0/main.py" "$0/inside" && echo && read -r _"#;
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(dir)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        assert_eq!(output.read_line(&mut String::new()).unwrap(), 1, "mounted");
        Self(child)
    }

    /// `path` as the container sees it.
    fn path(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap();
        Path::new("/proc").join(self.0.id().to_string()).join("root").join(inside)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

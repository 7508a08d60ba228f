//! A tamperer that lives for a moment: this test program once more, as another process.

use std::ffi::{CString, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::fs::IFlags;

use crate::common::{
    call_myself, clear_through_descriptor, clear_through_file_setattr, clear_through_fssetxattr,
    set_flags, write_through_mapping,
};

/// How the bit is cleared.
pub const CLEARINGS: [&str; 3] = ["setflags", "fssetxattr", "file_setattr"];
/// What is done once it is cleared.
pub const ACTS: [&str; 11] = [
    "nothing", "write", "truncate", "map", "chmod", "chown", "touch", "setfattr", "replace",
    "unlink", "rename",
];

/// What makes this program a tamperer, beside its environment.
pub const ARGUMENTS: [&str; 5] =
    ["--ignored", "--exact", "tamper::tamperer", "--nocapture", "--test-threads=1"];

/// Not a test of its own: what [`start`] runs as another process.
#[test]
#[ignore = "the tamperer of the other tests"]
fn tamperer() {
    let Ok(order) = std::env::var("STEADFAST_TAMPER") else { return };
    let path = std::env::var_os("STEADFAST_TAMPER_FILE").unwrap();
    let path = Path::new(&path);
    let (clearing, act) = order.split_once(' ').unwrap();
    if let Some(sign) = std::env::var_os("STEADFAST_TAMPER_WITHOUT") {
        while Path::new(&sign).exists() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    if let Some(name) = std::env::var_os("STEADFAST_TAMPER_COMM") {
        let name = CString::new(name.as_bytes()).unwrap();
        call_myself(&name);
        // A process is called what its first thread is called, and this is another.
        let pid = std::process::id();
        std::fs::write(format!("/proc/self/task/{pid}/comm"), name.as_bytes()).unwrap();
    }
    let old = (clearing == "descriptor").then(|| {
        let file = File::open(path).unwrap();
        io::stdout().write_all(b"\x06").unwrap();
        io::stdout().flush().unwrap();
        io::stdin().read_exact(&mut [0]).unwrap();
        file
    });
    for _ in 0..10_000 {
        if tamper(clearing, act, path, old.as_ref()).is_ok() {
            std::process::exit(0);
        }
    }
    std::process::exit(3);
}

/// Starts a tamperer.
pub fn start(clearing: &str, act: &str, path: &Path) -> Child {
    command(&std::env::current_exe().unwrap(), clearing, act, path).spawn().unwrap()
}

/// The command that is one, from this or another copy of the program.
pub fn command(program: &Path, clearing: &str, act: &str, path: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(ARGUMENTS)
        .envs(order(clearing, act, path))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// What tells the program what to do.
pub fn order(clearing: &str, act: &str, path: &Path) -> [(&'static str, OsString); 2] {
    let what = format!("{clearing} {act}").into();
    [("STEADFAST_TAMPER", what), ("STEADFAST_TAMPER_FILE", path.into())]
}

/// One that opens the file now, and clears the bit through that descriptor when it is told to
/// by [`let_loose`].
pub fn start_with_descriptor(path: &Path) -> Child {
    start_program_with_descriptor(&std::env::current_exe().unwrap(), path)
}

/// The same by another copy of the program.
pub fn start_program_with_descriptor(program: &Path, path: &Path) -> Child {
    let mut command = command(program, "descriptor", "nothing", path);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    // libtest prints something first.
    let mut byte = [0];
    while byte != *b"\x06" {
        output.read_exact(&mut byte).unwrap();
    }
    child
}

/// See [`start_with_descriptor`].
pub fn let_loose(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
}

/// Waits for its end; it has to have got through.
pub fn finish(mut child: Child) {
    let ended = child.wait().unwrap();
    assert!(ended.success(), "the tamperer ended with {ended}");
}

fn tamper(clearing: &str, act: &str, path: &Path, old: Option<&File>) -> io::Result<()> {
    match clearing {
        "setflags" => set_flags(path, |flags| flags - IFlags::IMMUTABLE)?,
        "fssetxattr" => clear_through_fssetxattr(path)?,
        "file_setattr" => clear_through_file_setattr(path)?,
        "descriptor" => clear_through_descriptor(old.unwrap())?,
        _ => panic!("{clearing}"),
    }
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    match act {
        "nothing" => Ok(()),
        "write" => still_there(path, |file| file.write_all_at(b"TAMPERED", 2)),
        "truncate" => nix::unistd::truncate(name.as_c_str(), 3).map_err(Into::into),
        "map" => {
            let before = std::fs::symlink_metadata(path)?.ino();
            write_through_mapping(path, b"TAMPERED")?;
            let after = std::fs::symlink_metadata(path)?.ino();
            if before == after { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        }
        "chmod" => std::fs::set_permissions(path, Permissions::from_mode(0o666)),
        "chown" => std::os::unix::fs::chown(path, Some(99), Some(98)),
        "touch" => {
            let times = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec { tv_sec: 7, tv_nsec: 7 },
                last_modification: rustix::fs::Timespec { tv_sec: 7, tv_nsec: 7 },
            };
            let flags = rustix::fs::AtFlags::empty();
            Ok(rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags)?)
        }
        "setfattr" => {
            let flags = rustix::fs::XattrFlags::empty();
            Ok(rustix::fs::setxattr(path, "user.evil", b"TAMPERED", flags)?)
        }
        "replace" => {
            let other = path.with_extension("evil");
            std::fs::write(&other, b"TAMPERED")?;
            std::fs::rename(other, path)
        }
        "unlink" => std::fs::remove_file(path),
        "rename" => std::fs::rename(path, path.with_extension("away")),
        _ => panic!("{act}"),
    }
}

/// Writes, and fails if the inode that was written has lost the path before.
fn still_there(path: &Path, write: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    write(&file)?;
    let (written, now) = (file.metadata()?, std::fs::symlink_metadata(path)?);
    if written.ino() == now.ino() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

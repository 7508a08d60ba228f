//! With audit every line names who did it, whoever they are and whatever else goes on.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::IFlags;

use super::{
    Background, Case, Entry, Tamperer, assert_named, count, guard_many, tamper_by, tamper_with_all,
    wait_told,
};
use crate::common::{Guard, missing, must, not_root, skip_unless};
use crate::no_audit;
use crate::tamper::{ARGUMENTS, command, finish, order};

/// Records that one of them makes: of clearing the bit, opening the file and changing it; and
/// one more, as some are refused at first.
const RECORDS: usize = 4;

/// Files that others read while somebody tampers with them.
const READ_FILES: usize = 30;

#[test]
fn many_tamperers_are_named_and_nobody_else_is() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(600);
    let guard = guard_many(count, Guard::on_disk());
    let ledger = tamper_with_all(&guard, count);
    assert_named(&guard, &ledger);
}

#[test]
fn tamperers_are_named_among_processes_that_only_read() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(60);
    let guard = guard_many(count, Guard::on_disk());
    let readers = [0, 1].map(|_| {
        Background::start(guard.dir(), r#"while :; do cat "$0"/f* >/dev/null 2>&1; done"#)
    });
    let ledger = tamper_with_all(&guard, count);
    drop(readers);
    assert_named(&guard, &ledger);
}

#[test]
fn chattr_is_named_and_not_whoever_reads_the_same_file_all_the_time() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let guard = guard_many(READ_FILES, Guard::on_disk());
    let dir = guard.dir();
    let _reader = Background::start(dir, r#"while :; do cat "$0"/f* >/dev/null 2>&1; done"#);
    let mut ledger = Vec::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The test itself reads too; not so often that openers are no longer looked at.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for number in 0..READ_FILES {
                    let _replaced_meanwhile = std::fs::read(dir.join(format!("f{number:05}")));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for number in 0..READ_FILES {
            let file = dir.join(format!("f{number:05}"));
            let child = Command::new("chattr").arg("-i").arg(&file).spawn().unwrap();
            let case = Case { number, file, clearing: "chattr", act: "nothing" };
            let Tamperer { child, pid, started } = Tamperer::of(child);
            ledger.push(Entry { case, pid, started });
            finish(child);
        }
        wait_told(&guard, &ledger);
        stop.store(true, Ordering::Relaxed);
    });
    assert_named(&guard, &ledger);
}

#[test]
fn tamperers_are_named_among_fifty_times_as_many_other_records() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(60);
    let guard = guard_many(count, Guard::on_disk());
    // Processes of which each is another, …
    let script = r#"mkdir "$0/noise"; touch "$0/noise/"{1..50}
        while :; do chattr +d "$0"/noise/*; chattr -d "$0"/noise/*; sleep 0.1; done"#;
    let strangers = Background::start(guard.dir(), script);
    // … and one that makes as many records as there have to be.
    let noise = Mutex::new(Noise::start(&guard.path("noisy")));
    let ledger = tamper_by(&guard, count, |case| {
        noise.lock().unwrap().make(50 * RECORDS);
        Tamperer::new(case)
    });
    let made = noise.into_inner().unwrap().end();
    drop(strangers);
    assert_eq!(made, 50 * RECORDS * count);
    assert_named(&guard, &ledger);
}

/// A process that changes flags of a file that nobody protects, as often as it is told to: the
/// same call as a tamperer's, and the record tells no file.
struct Noise(Child);

impl Noise {
    fn start(file: &Path) -> Self {
        std::fs::write(file, "").unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "ledger::with_audit::noise", "--nocapture"])
            .env("STEADFAST_NOISE", file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn make(&mut self, records: usize) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{records}").unwrap();
    }

    /// How many it made.
    fn end(mut self) -> usize {
        drop(self.0.stdin.take());
        let mut printed = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        assert!(self.0.wait().unwrap().success(), "{printed}");
        let made = printed.lines().find_map(|line| line.split_once("made ")?.1.parse().ok());
        made.unwrap_or_else(|| panic!("{printed}"))
    }
}

/// Not a test of its own: what [`Noise`] starts.
#[test]
#[ignore = "a part of another test"]
// It tells its parent.
#[allow(clippy::print_stdout)]
fn noise() {
    let Some(path) = std::env::var_os("STEADFAST_NOISE") else { return };
    let file = File::open(path).unwrap();
    let mut made = 0;
    for line in std::io::stdin().lines() {
        let records: usize = line.unwrap().parse().unwrap();
        for record in 0..records {
            let flags = if record % 2 == 0 { IFlags::NODUMP } else { IFlags::empty() };
            rustix::fs::ioctl_setflags(&file, flags).unwrap();
        }
        made += records;
    }
    println!("\nmade {made}");
}

#[test]
fn tamperers_with_strange_names_are_named() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(60);
    let guard = guard_many(count, Guard::on_disk());
    let program = std::env::current_exe().unwrap();
    let names =
        ["a) R 1 1 (b", "  (((  \n\n)) ", "x\n\"y\"\u{1b}[2J", "pid=1 uid=0", ") ) ) ) )", "\n"];
    let ledger = tamper_by(&guard, count, |case| {
        let mut command = command(&program, case.clearing, case.act, &case.file);
        let name = names[case.number % names.len()];
        Tamperer::of(command.env("STEADFAST_TAMPER_COMM", name).spawn().unwrap())
    });
    assert_named(&guard, &ledger);
}

#[test]
fn tamperers_whose_program_is_deleted_are_named() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let count = count(60);
    let guard = guard_many(count, Guard::on_disk());
    let programs = tempfile::tempdir_in("/var/tmp").unwrap();
    let program = programs.path().join("program");
    // Not by this process, whose other tests fork: what is open for writing cannot be run.
    must("cp", &[std::env::current_exe().unwrap().as_os_str(), program.as_os_str()]);
    let ledger = tamper_by(&guard, count, |case| {
        let own = programs.path().join(format!("gone{}", case.number));
        std::fs::hard_link(&program, &own).unwrap();
        let mut command = command(&own, case.clearing, case.act, &case.file);
        let child = command.env("STEADFAST_TAMPER_WITHOUT", &own).spawn().unwrap();
        std::fs::remove_file(&own).unwrap();
        Tamperer::of(child)
    });
    assert_named(&guard, &ledger);
}

/// Mounts the directory elsewhere, for itself alone, and has the first process of a new pid
/// namespace tamper there; says which one that is.
const ELSEWHERE: &str = r#"mount --bind "$1" /mnt && shift && exec unshare --pid bash -c '
    "$@" </dev/null >/dev/null 2>&1 & echo $!; wait $!' bash "$@""#;

#[test]
fn tamperers_in_other_mount_and_pid_namespaces_are_named() {
    skip_unless!(not_root().or_else(no_audit).or_else(|| missing(&["unshare", "mount"])));
    let _alone = crate::alone();
    let count = count(60);
    let guard = guard_many(count, Guard::on_disk());
    let (program, dir) = (std::env::current_exe().unwrap(), guard.dir().to_owned());
    let ledger = tamper_by(&guard, count, |case| {
        // There the file has another path, and the process another pid.
        let file = Path::new("/mnt").join(case.file.file_name().unwrap());
        let mut child = Command::new("unshare")
            .args(["--mount", "bash", "-c", ELSEWHERE, "bash"])
            .args([&dir, &program])
            .args(ARGUMENTS)
            .envs(order(case.clearing, case.act, &file))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        Tamperer { child, pid: line.trim().parse().unwrap(), started: None }
    });
    assert_named(&guard, &ledger);
}

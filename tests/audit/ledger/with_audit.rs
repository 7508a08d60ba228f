//! With audit every line names who did it, whoever they are and whatever else goes on.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{
    Background, Case, Entry, Tamperer, assert_named, count, guard_many, patience, tamper_by,
    tamper_with_all, wait_told,
};
use crate::common::{Guard, missing, must, not_root, poll_for, skip_unless};
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
    // chattr on files that nobody protects: the same call, and the record tells no file.
    let script = r#"mkdir "$0/noise"; touch "$0/noise/"{1..50}
        while :; do
            chattr +d "$0"/noise/*; sleep 0.01; chattr -d "$0"/noise/*; sleep 0.01
            printf x >>"$0/rounds"
        done"#;
    let noise = Background::start(guard.dir(), script);
    let rounds = guard.path("rounds");
    let others = || std::fs::metadata(&rounds).map_or(0, |rounds| rounds.len() as usize * 100);
    let ledger = tamper_by(&guard, count, |case| {
        let number = case.number;
        poll_for(
            patience(count),
            || (others() >= 50 * RECORDS * number).then_some(()),
            || format!("only {} other records by the {number}th", others()),
        );
        Tamperer::new(case)
    });
    drop(noise);
    assert_named(&guard, &ledger);
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

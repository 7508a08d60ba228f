//! What steadfast costs everybody else: opening a protected file, opening any other, and a
//! system call that has nothing to do with files, without the daemon and with it.
//!
//! `cargo bench --bench cost`, as root, on a quiet machine. The audit rules apply to every
//! process that was started after audit was first turned on, so each figure comes from a process
//! that was started for it.

// A benchmark prints, and has nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Guard, Place};

/// Processes that open the file for the first time.
const PROCESSES: usize = 100;
/// Opens by one process, with a rest in between: not so many that the file counts as hot.
const OPENS: usize = 300;
const REST: Duration = Duration::from_millis(2);
/// Calls without a rest, and how often that is measured.
const CALLS: u32 = 20_000;
const ROUNDS: usize = 50;
/// What is measured: its name, how, and whether of the protected file.
const ROWS: [(&str, &str, bool); 5] = [
    ("a system call without a file (getppid)", "call", false),
    ("opening a file that is not protected", "open", false),
    ("the first open of one that is", "first", true),
    ("later opens by the same process", "later", true),
    ("opens of it without end", "hot", true),
];
/// A file that is opened without end is measured once the daemon has had this time.
const HOT: Duration = Duration::from_secs(3);

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let [_, kind, path] = args.as_slice() {
        return measure(kind, Path::new(path));
    }
    if let Some(reason) = common::not_root() {
        println!("SKIPPED cost: {reason}");
        return;
    }
    let place = Place::disk();
    let plain = place.dir().join("plain");
    common::write_old(&plain, b"good\n");
    let without = ROWS.map(|(_, kind, _)| in_processes(kind, &plain));
    let guard = Guard::on_disk().file("guarded", b"good\n").start();
    println!("{:<40} {:>16} {:>16}", "nanoseconds: median, 99th percentile", "without", "with");
    for ((title, kind, protected), without) in ROWS.into_iter().zip(without) {
        let path = if protected { guard.file() } else { plain.clone() };
        let [without, with] =
            [without, in_processes(kind, &path)].map(|(median, high)| format!("{median} {high}"));
        println!("{title:<40} {without:>16} {with:>16}");
    }
}

/// Median and 99th percentile of what processes of their own measure.
fn in_processes(kind: &str, path: &Path) -> (u64, u64) {
    let processes = if kind == "first" { PROCESSES } else { 1 };
    let mut all: Vec<u64> = Vec::new();
    for _ in 0..processes {
        let program = std::env::current_exe().unwrap();
        let output = Command::new(program).arg(kind).arg(path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        all.extend(text.split_whitespace().map(|number| number.parse::<u64>().unwrap()));
    }
    all.sort_unstable();
    (all[all.len() / 2], all[all.len() * 99 / 100])
}

/// Prints nanoseconds.
fn measure(kind: &str, path: &Path) {
    let open = || drop(File::open(path).unwrap());
    let times: Vec<u64> = match kind {
        "first" => vec![time(1, open)],
        "later" => {
            open();
            let after_a_rest = |_| {
                std::thread::sleep(REST);
                time(1, open)
            };
            (0..OPENS).map(after_a_rest).collect()
        }
        "hot" => {
            let began = Instant::now();
            while began.elapsed() < HOT {
                open();
            }
            (0..CALLS).map(|_| time(1, open)).collect()
        }
        "open" => (0..ROUNDS).map(|_| time(CALLS / 10, open)).collect(),
        _ => {
            let call = || assert!(rustix::process::getppid().is_some());
            (0..ROUNDS).map(|_| time(CALLS, call)).collect()
        }
    };
    let words: Vec<String> = times.iter().map(ToString::to_string).collect();
    println!("{}", words.join(" "));
}

/// What one call takes, in nanoseconds, of so many in a row.
fn time(calls: u32, call: impl Fn()) -> u64 {
    let began = Instant::now();
    (0..calls).for_each(|_| call());
    u64::try_from(began.elapsed().as_nanos()).unwrap() / u64::from(calls)
}

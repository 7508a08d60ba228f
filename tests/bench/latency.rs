//! How long a file is not whole: from the moment of tampering to the moment at which the
//! content is right and `+i` is set, for steadfast and for two guards made of inotifywait, cp and
//! chattr, in the same run: the one that people write, and one tuned as far as a script goes.
//!
//! `cargo bench --bench latency`, as root, on a quiet machine with two processors or more;
//! with words behind it (`-- "4 KiB"`, `-- write`), only the rows that have them all.
//!
//! The clock starts before the system call that tampers (for a write: before the first one that
//! changes the file) and stops when one `statx` shows the bit and the right size. The tamperer
//! waits by looking without pause. It changes its processor when a guard was there before the
//! write: on the same one, steadfast runs first.

// A benchmark prints, and has nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Guard, Place, is_immutable, set_flags};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rustix::fs::{AtFlags, CWD, IFlags, StatxAttributes, StatxFlags};

/// Of each size, way and guard, unless `STEADFAST_SAMPLES` says otherwise.
const SAMPLES: usize = 200;

/// Longer than any guard takes, a copy of 64 MiB on a slow disk included.
const TOO_LONG: Duration = Duration::from_secs(20);

const SIZES: [(&str, usize); 3] = [("4 KiB", 4 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20)];

/// Between two samples: long enough for the processors to fall asleep, and so short that
/// tampering follows on tampering.
const PACES: [(&str, Duration); 2] =
    [("now and then", Duration::from_millis(200)), ("at once again", Duration::from_millis(20))];

/// The scripts in `tests/bench`.
const SCRIPTS: [&str; 2] = ["script-guard", "script-guard-tuned"];

#[derive(Clone, Copy)]
enum Way {
    Clear,
    ClearAndWrite,
}

fn main() {
    if let Some(reason) =
        common::not_root().or_else(|| common::missing(&["inotifywait", "chattr", "cp"]))
    {
        println!("SKIPPED latency: {reason}");
        return;
    }
    println!("{} samples each; tampering to whole, microseconds; x: medians compared\n", wanted());
    println!(
        "{:<7} {:<6} {:<14} {:>7} {:>7} {:>7}  {:>8} {:>7}  {:>8} {:>7}",
        "size", "way", "again", "p50", "p99", "max", "script", "x", "tuned", "x"
    );
    for (name, size) in SIZES {
        for (way, title) in [(Way::Clear, "clear"), (Way::ClearAndWrite, "write")] {
            for (pace, rest) in PACES {
                if !is_asked_for(&[name, title, pace]) {
                    continue;
                }
                let ours = Times::new(steadfast(size, way, rest));
                let [plain, tuned] = SCRIPTS.map(|name| Times::new(script(name, size, way, rest)));
                let ratio = |other: &Times| other.at(50) as f64 / ours.at(50).max(1) as f64;
                println!(
                    "{name:<7} {title:<6} {pace:<14} {:>7} {:>7} {:>7}  {:>8} {:>6.1}x  {:>8} {:>6.1}x",
                    ours.at(50),
                    ours.at(99),
                    ours.at(100),
                    plain.at(50),
                    ratio(&plain),
                    tuned.at(50),
                    ratio(&tuned),
                );
            }
        }
    }
}

/// Whether the row with these words in it is to be measured.
fn is_asked_for(words: &[&str]) -> bool {
    // Cargo itself says `--bench`.
    std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).all(|arg| words.contains(&&*arg))
}

/// Sorted microseconds.
struct Times(Vec<u128>);

impl Times {
    fn new(samples: Vec<Duration>) -> Self {
        let mut times: Vec<_> = samples.iter().map(Duration::as_micros).collect();
        times.sort_unstable();
        Self(times)
    }

    fn at(&self, percent: usize) -> u128 {
        self.0[(self.0.len() * percent / 100).min(self.0.len() - 1)]
    }
}

fn content(size: usize) -> Vec<u8> {
    (0_u32..).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(size).collect()
}

fn steadfast(size: usize, way: Way, rest: Duration) -> Vec<Duration> {
    let guard = Guard::on_disk().file("guarded", &content(size)).start();
    let samples = sample(&guard.file(), size, way, rest);
    guard.wait_whole();
    samples
}

fn script(name: &str, size: usize, way: Way, rest: Duration) -> Vec<Duration> {
    let place = Place::disk();
    let (file, good) = (place.dir().join("guarded"), place.dir().join("good"));
    for path in [&file, &good] {
        common::write_old(path, &content(size));
    }
    let guard = ScriptGuard::start(name, &file, &good);
    let samples = sample(&file, size, way, rest);
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&good).unwrap());
    drop(guard);
    samples
}

/// The script, in a process group of its own.
struct ScriptGuard(Child);

impl ScriptGuard {
    fn start(name: &str, file: &Path, good: &Path) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bench").join(name);
        let mut command = Command::new(script);
        command.args([file, good]).stdin(Stdio::null()).process_group(0);
        let guard = Self(command.spawn().unwrap());
        common::poll(|| (is_immutable(file) == Some(true)).then_some(()), || "+i".to_owned());
        // The watch comes after the bit: proven once it answers.
        common::poll(
            || {
                let _ = set_flags(file, |flags| flags - IFlags::IMMUTABLE);
                std::thread::sleep(Duration::from_millis(50));
                (is_immutable(file) == Some(true)).then_some(())
            },
            || "the script's first answer".to_owned(),
        );
        guard
    }
}

impl Drop for ScriptGuard {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

fn wanted() -> usize {
    let set = std::env::var("STEADFAST_SAMPLES").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(SAMPLES)
}

fn sample(file: &Path, size: usize, way: Way, rest: Duration) -> Vec<Duration> {
    // A guard copies and hashes what it heals, which takes longer the larger the file is.
    let rest = rest + Duration::from_nanos(size as u64 * 8);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut samples = Vec::new();
    let mut missed = 0;
    while samples.len() < wanted() {
        run_on(missed % processors);
        std::thread::sleep(rest);
        let Some(began) = tamper(file, way) else {
            missed += 1;
            assert!(missed < 100 * wanted(), "the guard lets no write through");
            continue;
        };
        let took = wait_until_whole(file, size, began);
        samples.push(took);
    }
    samples
}

fn run_on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// Tampers, and says when that began; `None` where the guard was there before the write.
fn tamper(path: &Path, way: Way) -> Option<Instant> {
    match way {
        Way::Clear => {
            let file = File::open(path).unwrap();
            let flags = rustix::fs::ioctl_getflags(&file).unwrap();
            let cleared = Instant::now();
            rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE).unwrap();
            Some(cleared)
        }
        Way::ClearAndWrite => {
            // Unseen by inotify and fanotify. By any other way the guard is called before the
            // write, and comes before it more often than not.
            common::clear_through_file_setattr(path).unwrap();
            let mut file = File::options().append(true).open(path).ok()?;
            let written = Instant::now();
            file.write_all(b"TAMPERED").ok()?;
            Some(written)
        }
    }
}

fn wait_until_whole(path: &Path, size: usize, began: Instant) -> Duration {
    let mask = StatxFlags::SIZE;
    loop {
        let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, mask);
        let took = began.elapsed();
        let whole = stat.is_ok_and(|stat| {
            stat.stx_size == size as u64 && stat.stx_attributes.contains(StatxAttributes::IMMUTABLE)
        });
        if whole {
            assert_start_and_end(path, size);
            return took;
        }
        assert!(took < TOO_LONG, "{} is not whole", path.display());
        std::hint::spin_loop();
    }
}

/// That the content is right too, outside the time that is measured.
fn assert_start_and_end(path: &Path, size: usize) {
    let mut file = File::open(path).unwrap();
    let good = content(size.min(4096));
    let mut start = vec![0; good.len()];
    file.read_exact(&mut start).unwrap();
    assert!(start == good, "not the good content");
    let mut end = Vec::new();
    file.seek(SeekFrom::End(-8)).unwrap();
    file.read_to_end(&mut end).unwrap();
    assert_ne!(end, b"TAMPERED");
}

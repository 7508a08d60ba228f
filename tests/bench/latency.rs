//! How long a file is not whole: from the moment of tampering to the moment at which the
//! content is right and `+i` is set, for steadfast and for a guard made of inotifywait, cp and
//! chattr, in the same run.
//!
//! `cargo bench --bench latency`, as root, on a quiet machine with two processors or more: the
//! tamperer waits by looking without pause, and so needs one of its own.
//!
//! The clock starts before the system call that tampers (for a write: before the first one that
//! changes the file) and stops when one `statx` shows the bit and the right size.

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
use rustix::fs::{AtFlags, CWD, IFlags, StatxAttributes, StatxFlags};

/// Of each size, way and guard, unless `STEADFAST_SAMPLES` says otherwise.
const SAMPLES: usize = 200;

/// Longer than any guard takes, a copy of 64 MiB on a slow disk included.
const TOO_LONG: Duration = Duration::from_secs(20);

const SIZES: [(&str, usize); 3] = [("4 KiB", 4 << 10), ("1 MiB", 1 << 20), ("64 MiB", 64 << 20)];

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
    println!("{} samples each; tampering to whole, microseconds\n", wanted());
    println!(
        "{:<8} {:<16} {:>9} {:>9} {:>9}   {:>9} {:>9} {:>9}   {:>6}",
        "size", "way", "p50", "p99", "max", "script 50", "99", "max", "ratio"
    );
    for (name, size) in SIZES {
        for (way, title) in [(Way::Clear, "clear"), (Way::ClearAndWrite, "clear and write")] {
            let ours = Times::new(steadfast(size, way));
            let script = Times::new(script(size, way));
            println!(
                "{name:<8} {title:<16} {:>9} {:>9} {:>9}   {:>9} {:>9} {:>9}   {:>5.1}x",
                ours.at(50),
                ours.at(99),
                ours.at(100),
                script.at(50),
                script.at(99),
                script.at(100),
                script.at(50) as f64 / ours.at(50).max(1) as f64
            );
        }
    }
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

fn steadfast(size: usize, way: Way) -> Vec<Duration> {
    let guard = Guard::on_disk().file("guarded", &content(size)).start();
    let samples = sample(&guard.file(), size, way);
    guard.wait_whole();
    samples
}

fn script(size: usize, way: Way) -> Vec<Duration> {
    let place = Place::disk();
    let (file, good) = (place.dir().join("guarded"), place.dir().join("good"));
    for path in [&file, &good] {
        common::write_old(path, &content(size));
    }
    let guard = ScriptGuard::start(&file, &good);
    let samples = sample(&file, size, way);
    assert_eq!(std::fs::read(&file).unwrap(), std::fs::read(&good).unwrap());
    drop(guard);
    samples
}

/// The script, in a process group of its own.
struct ScriptGuard(Child);

impl ScriptGuard {
    fn start(file: &Path, good: &Path) -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bench/script-guard");
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

fn sample(file: &Path, size: usize, way: Way) -> Vec<Duration> {
    // Between two samples a guard may do what it does afterwards: copy, hash, record.
    let rest = Duration::from_millis(200) + Duration::from_nanos(size as u64 * 8);
    let mut samples = Vec::new();
    while samples.len() < wanted() {
        std::thread::sleep(rest);
        let Some(began) = tamper(file, way) else { continue };
        let took = wait_until_whole(file, size, began);
        samples.push(took);
    }
    samples
}

/// Tampers, and says when that began; `None` where the guard was there before the write.
fn tamper(path: &Path, way: Way) -> Option<Instant> {
    let file = File::open(path).unwrap();
    let flags = rustix::fs::ioctl_getflags(&file).unwrap();
    let cleared = Instant::now();
    rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE).unwrap();
    match way {
        Way::Clear => Some(cleared),
        Way::ClearAndWrite => {
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

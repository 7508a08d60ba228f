//! Memory at its limit, as a unit has one: nothing is lost, nothing hangs.
//!
//! The service's own limit is generous; this one is what the daemon has just after its start and a
//! few megabytes. What it cannot do without more the kernel may end it for: then it is started
//! again, as the service manager does.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{GOOD, Guard, MARKER, not_root, report_skip, set_flags, skip_unless};
use rustix::fs::IFlags;
use serde_json::Value;

const FILES: usize = 20;
/// What it may have beyond what it needs after its start.
const MORE: u64 = 12 << 20;

/// A control group with a limit for memory; it is gone when this is.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self, String> {
        let name = format!("steadfast-test-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/memory");
        let above = if first.is_dir() { first } else { Path::new("/sys/fs/cgroup") };
        let group = Self(above.join(name));
        fs::create_dir(&group.0).map_err(|e| format!("no control group for memory: {e}"))?;
        match group.0.join(group.names()[0]).exists() {
            true => Ok(group),
            false => Err("the memory controller is not enabled".to_owned()),
        }
    }

    /// The files of the limit, of what is used, and of how often the limit was met.
    fn names(&self) -> [&'static str; 3] {
        match self.0.starts_with("/sys/fs/cgroup/memory") {
            true => ["memory.limit_in_bytes", "memory.usage_in_bytes", "memory.failcnt"],
            false => ["memory.max", "memory.current", "memory.events"],
        }
    }

    /// What cannot be given back: no cache of files.
    fn needed(&self) -> u64 {
        let text = fs::read_to_string(self.0.join("memory.stat")).unwrap();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map_or(0, |number| number.parse::<u64>().unwrap())
        };
        of("rss") + of("anon") + of("kernel")
    }

    fn limit(&self, bytes: u64) {
        fs::write(self.0.join(self.names()[0]), bytes.to_string()).unwrap();
    }

    /// How often more was asked for than the limit allows.
    fn met(&self) -> u64 {
        let text = fs::read_to_string(self.0.join(self.names()[2])).unwrap();
        let lines = text.lines().filter(|line| !line.contains(' ') || line.starts_with("max "));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let deadline = Instant::now() + common::PATIENCE;
        // Whoever was in it may take a moment to be gone.
        while fs::remove_dir(&self.0).is_err() && self.0.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Waits for `done`, and starts the daemon again whenever it was ended.
fn await_it(guard: &mut Guard, ends: &mut usize, done: impl Fn(&Guard) -> bool) {
    let deadline = Instant::now() + common::PATIENCE;
    loop {
        if !guard.is_alive() {
            *ends += 1;
            guard.kill();
            guard.start();
        }
        if done(guard) {
            return;
        }
        assert!(Instant::now() < deadline, "it hangs\n{}", guard.story());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn with_memory_at_its_limit_every_file_is_healed_and_every_tampering_told() {
    skip_unless!(not_root());
    // Gone last.
    let group = match Group::new() {
        Ok(group) => group,
        Err(why) => return report_skip(&why),
    };
    let names: Vec<_> = (0..FILES).map(|number| format!("{number:02}.conf")).collect();
    let large = vec![b'g'; 16 << 20];
    let builder = names.iter().fold(Guard::on_disk(), |all, name| all.file(name, GOOD));
    let mut guard = builder.file("large", &large).start();
    guard.stop();
    guard.run_in(group.0.clone());
    guard.start();
    group.limit(group.needed() + MORE);
    let began = group.met();
    let mut ends = 0;
    for name in names.iter().map(String::as_str).chain(["large"]) {
        let file = guard.path(name);
        let seq = guard.last_seq();
        // Much is found in its place, and to be kept.
        let found = MARKER.repeat(1 << 18);
        let got_through = || {
            let _ = set_flags(&file, |flags| flags - IFlags::IMMUTABLE);
            let file = fs::File::options().write(true).open(&file);
            file.and_then(|file| file.write_all_at(&found, 0)).is_ok()
        };
        while !got_through() {}
        await_it(&mut guard, &mut ends, |guard| {
            // Where the daemon was ended in between, the next tells what it had taken out.
            let told =
                |line: &Value| line["seq"].as_u64() > Some(seq) && line["incident"].is_string();
            guard.good(&file).differences(&file).is_empty()
                && guard.events_about(&file).iter().any(told)
        });
    }
    let met = group.met() - began;
    eprintln!("the limit was met {met} times, the daemon ended {ends} times");
    assert!(met > 0, "there was memory to spare: the test shows nothing");
    await_it(&mut guard, &mut ends, |guard| guard.status()["open_incidents"] == 0);
    common::assert_code(&guard.steadfast(&["audit"]), 0, "audit");
    common::assert_code(&guard.steadfast(&["journal", "verify"]), 0, "journal verify");
    // What is ended in the middle of its work leaves nothing behind.
    assert_eq!(guard.status()["protected"], FILES + 1);
    guard.stop();
}

//! What a guard costs while nothing happens: how long it takes to be ready, its memory, and the
//! processor time of a minute.
//!
//! `STEADFAST_FILES=1000 cargo bench --bench footprint`, as root. Files of 64 bytes, 1,000 a
//! directory. The processor time is told with a sweep that does not come within the minute, and
//! with the sweep as it is by default.

// A benchmark prints, and has nobody to hand an error to.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Place, Sandbox};
use rustix::process::{Pid, Signal};
use steadfast::baseline::Baseline;

/// What it is measured over.
const MINUTE: Duration = Duration::from_secs(60);

fn main() {
    if let Some(reason) = common::not_root() {
        println!("SKIPPED footprint: {reason}");
        return;
    }
    let wanted = std::env::var("STEADFAST_FILES").ok();
    let count = wanted.and_then(|text| text.parse().ok()).unwrap_or(1000);
    let sandbox = Sandbox::on(Place::disk());
    make(sandbox.dir(), count);
    println!("{count} files");
    configure(&sandbox, "flag_sweep = \"1h\"");
    let daemon = Daemon::start(&sandbox, "taken under protection and ready");
    daemon.settle(&sandbox, count);
    daemon.memory("after that");
    drop(daemon);
    let daemon = Daemon::start(&sandbox, "started again and ready");
    daemon.settle(&sandbox, count);
    daemon.idle("besides the sweep");
    daemon.memory("in all");
    drop(daemon);
    configure(&sandbox, "");
    let daemon = Daemon::start(&sandbox, "started again and ready");
    daemon.settle(&sandbox, count);
    daemon.idle("with the sweep");
}

fn make(dir: &Path, count: usize) {
    for number in 0..count {
        let below = dir.join(format!("{:03}", number / 1000));
        if number % 1000 == 0 {
            std::fs::create_dir(&below).unwrap();
        }
        let content = format!("{number:063}\n");
        std::fs::write(below.join(format!("file-{number:06}.conf")), content).unwrap();
    }
}

fn configure(sandbox: &Sandbox, daemon: &str) {
    let protect = format!("[[protect]]\npaths = [{:?}]\n", sandbox.dir());
    sandbox.configure(&(sandbox.daemon_table(daemon) + &protect));
}

/// A daemon; stopped in order when it is dropped.
struct Daemon {
    child: Child,
    threads: String,
}

impl Daemon {
    /// Starts it, and tells how long it took to be ready.
    fn start(sandbox: &Sandbox, what: &str) -> Self {
        let log = File::create(sandbox.config().with_file_name("log")).unwrap();
        let began = Instant::now();
        let mut command = sandbox.command(&["run".as_ref()]);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let threads = format!("/proc/{}/task", child.id());
        let mut daemon = Self { child, threads };
        while !daemon.is_ready(sandbox) {
            assert!(daemon.child.try_wait().unwrap().is_none(), "the daemon ended");
            // Each question costs the daemon something, too.
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
        daemon
    }

    fn is_ready(&self, sandbox: &Sandbox) -> bool {
        let status = Self::status(sandbox);
        status["state"] == "watching" || status["state"] == "degraded"
    }

    fn status(sandbox: &Sandbox) -> serde_json::Value {
        let output = sandbox.steadfast(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Waits until a copy of each file lies ready, the self-test is over and nothing is done any
    /// more.
    fn settle(&self, sandbox: &Sandbox, count: usize) {
        let ready = || {
            let all = Baseline::open_read_only(&sandbox.state()).unwrap().all().unwrap();
            all.iter().filter(|record| record.replica.is_some()).count()
        };
        while ready() < count {
            std::thread::sleep(Duration::from_secs(1));
        }
        while Self::status(sandbox)["selftest"].is_null() {
            std::thread::sleep(Duration::from_secs(1));
        }
        // Where others are busy, what they do may never end.
        for _ in 0..20 {
            let before = self.processor();
            std::thread::sleep(Duration::from_secs(3));
            if self.processor() - before < Duration::from_millis(30) {
                return;
            }
        }
    }

    /// The processor time of all its threads.
    fn processor(&self) -> Duration {
        let tasks = std::fs::read_dir(&self.threads).unwrap().flatten();
        let of = |task: std::fs::DirEntry| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        tasks.filter_map(of).map(Duration::from_nanos).sum()
    }

    fn idle(&self, what: &str) {
        let before = self.processor();
        std::thread::sleep(MINUTE);
        let used = (self.processor() - before).as_secs_f64();
        let share = used / MINUTE.as_secs_f64() * 100.0;
        println!("idle, {what}: {:.0} ms of a minute, {share:.2} % of a processor", used * 1e3);
    }

    fn memory(&self, what: &str) {
        memory(self.child.id(), what);
        let tasks = std::fs::read_dir(&self.threads).unwrap().flatten();
        let children = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
        for child in children.flatten().flat_map(|text| -> Vec<u32> {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
        }) {
            let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap();
            memory(child, &String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
}

fn memory(process: u32, what: &str) {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    };
    let [now, most, own, program] = ["VmRSS", "VmHWM", "RssAnon", "RssFile"].map(field);
    println!(
        "memory {what}: {now:.1} MiB ({own:.1} its own, {program:.1} of the program and files), \
             at most {most:.1} MiB"
    );
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

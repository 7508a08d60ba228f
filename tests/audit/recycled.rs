//! A machine that gives the same pids again and again: few there are, and all are soon used.

use std::collections::{BTreeSet, HashMap};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::common::{GOOD, Guard, TAMPERING, missing, not_root, poll, skip_unless, text};

/// Pids below 300 are given only once.
const PIDS: &str = "400";
/// More than there are pids that are given again: some tamperers have the same.
pub const MORE_THAN_PIDS: usize = 110;

/// Why there is no such place; `None` where there is.
pub fn no_pid_max_of_its_own() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let before = version < (6, 14);
    before.then(|| "needs Linux 6.14, where a pid namespace has a pid_max of its own".into())
}

#[test]
fn no_process_is_taken_for_another_that_had_its_pid() {
    skip_unless!(not_root().or_else(no_pid_max_of_its_own));
    skip_unless!(missing(&["unshare", "chattr", "bash"]));
    let _room = crate::alone();
    run_with_few_pids("recycled::inside");
}

/// Runs a test of this program that is ignored where it is not [`is_inside`].
// It prints the figures of a ledger.
#[allow(clippy::print_stdout)]
pub fn run_with_few_pids(test: &str) {
    let everywhere = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let script = r#"echo "$1" >/proc/sys/kernel/pid_max && STEADFAST_FEW_PIDS=1 "$0" \
        --ignored --exact "$2" --nocapture --test-threads=1"#;
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([PIDS, test])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("1 passed"), "{printed}");
    println!("{printed}");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap(), everywhere);
}

/// Whether there are few pids here.
pub fn is_inside() -> bool {
    std::env::var_os("STEADFAST_FEW_PIDS").is_some()
}

/// Has so many pids given to others.
pub fn give_away(pids: usize) {
    let script = format!("for ((i = 0; i < {pids}; i++)); do (:); done");
    assert!(Command::new("bash").args(["-c", &script]).status().unwrap().success());
}

/// Not a test of its own: what the other runs in a pid namespace with few pids. Audit is to be
/// had only in the first one, so that all that is known is who opened a file.
#[test]
#[ignore = "a part of another test"]
fn inside() {
    if !is_inside() {
        return;
    }
    give_away(300);
    let name = |number| format!("f{number:05}");
    let builder = (0..MORE_THAN_PIDS).fold(Guard::on_disk(), |all, n| all.file(name(n), GOOD));
    let guard = builder.start();
    let files: Vec<_> = (0..MORE_THAN_PIDS).map(|number| guard.path(name(number))).collect();
    for file in &files {
        assert!(Command::new("chattr").arg("-i").arg(file).status().unwrap().success());
        // Others have the next pids, so that this one soon comes round.
        give_away(30);
    }
    let told = poll(
        || {
            let mut told: HashMap<String, Vec<Value>> = HashMap::new();
            for line in guard.events() {
                if TAMPERING.contains(&line["kind"].as_str().unwrap()) {
                    told.entry(line["path"].as_str().unwrap().to_owned()).or_default().push(line);
                }
            }
            (told.len() == MORE_THAN_PIDS && guard.status()["open_incidents"] == 0).then_some(told)
        },
        || guard.story(),
    );
    let mut lives: HashMap<u64, BTreeSet<u64>> = HashMap::new();
    for file in &files {
        let path = file.to_str().unwrap();
        for line in &told[path] {
            let actor = &line["actor"];
            assert_eq!(
                (&actor["comm"], &actor["cmdline"][2]),
                (&"chattr".into(), &path.into()),
                "{line}"
            );
            assert_eq!(line["attribution"]["confidence"], "opener", "{line}");
            let (pid, start) =
                (actor["pid"].as_u64().unwrap(), actor["start_time"].as_u64().unwrap());
            lives.entry(pid).or_default().insert(start);
        }
        guard.wait_whole_at(file);
    }
    let twice = lives.values().filter(|starts| starts.len() > 1).count();
    assert!(twice > 0, "no two tamperers had the same pid: {lives:?}");
}

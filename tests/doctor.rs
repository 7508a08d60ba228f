//! What `doctor` says of this host.

// clippy's allowance for tests does not reach helpers.
#![allow(clippy::unwrap_used)]

mod common;

use common::{GOOD, Guard, Place, Sandbox, not_root, skip_unless, text};
use serde_json::Value;

fn doctor(sandbox: &Sandbox, code: i32) -> Value {
    sandbox.json(code, &["doctor".as_ref(), "--json".as_ref()])
}

/// The sentences about something, at a level.
fn said(answer: &Value, about: &str, level: &str) -> Vec<String> {
    let findings = answer["findings"].as_array().unwrap();
    let wanted = findings.iter().filter(|one| one["about"] == about && one["level"] == level);
    wanted.map(|one| one["says"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_host_that_is_fit_has_no_problem_and_what_is_missing_is_said() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let answer = doctor(&guard, 0);
    assert_eq!(answer["problems"], 0, "{answer}");
    let files = said(&answer, "files", "good");
    assert!(files.iter().any(|says| says.contains("1 path)")), "{answer}");
    assert!(said(&answer, "mail", "limit")[0].contains("[alert.email]"), "{answer}");
    let told = text(&guard.steadfast(&["doctor"]).stdout);
    assert!(told.contains("0 problems"), "{told}");
    for said in [
        "Linux audit",
        "protected there: 1 path)",
        "the disk of",
        "so nobody is told of anything",
        "(with a limit it works, but does less)",
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
}

#[test]
fn a_state_directory_in_memory_is_a_problem_with_an_answer() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    sandbox.configure(&format!("[daemon]\nstate = {:?}\n", memory.path()));
    let answer = doctor(&sandbox, 1);
    let problems = said(&answer, "state", "problem");
    let advice = "set `state` to a directory on a disk";
    assert!(problems.iter().any(|says| says.contains(advice)), "{answer}");
}

#[test]
fn a_password_that_others_can_read_is_a_problem() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let password = sandbox.path("password");
    std::fs::write(&password, "secret\n").unwrap();
    let mail = "[alert.email]\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\n\
                server = \"smtps://u@mail.example.com\"\n";
    let toml = sandbox.daemon_table("") + mail + &format!("password_file = {password:?}\n");
    sandbox.configure(&toml);
    let answer = doctor(&sandbox, 1);
    assert!(said(&answer, "mail", "problem")[0].contains("chmod 600"), "{answer}");
    assert!(!answer.to_string().contains("secret"));
}

#[test]
fn who_could_clear_the_bit_is_listed_and_the_daemon_is_among_them() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let answer = guard.json(0, &["doctor", "--who-could", "--json"].map(AsRef::as_ref));
    let running = answer["running"].as_array().unwrap();
    let processes = running.iter().flat_map(|group| group["processes"].as_array().unwrap());
    let pids: Vec<_> = processes.map(|one| one["pid"].as_u64().unwrap()).collect();
    assert!(pids.contains(&u64::from(guard.pid())), "{answer}");
    assert!(answer["services"].is_array(), "{answer}");
    let told = text(&guard.steadfast(&["doctor", "--who-could"]).stdout);
    assert!(told.contains("CAP_LINUX_IMMUTABLE"), "{told}");
}

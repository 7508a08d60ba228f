//! Another configuration while it runs: checked whole, then in force, with no gap for the rest.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{
    GOOD, Guard, MARKER, Place, Sandbox, Whole, is_immutable, not_root, poll, skip_unless,
    write_old,
};
use crate::http::{ask, ask_tcp, metrics};

const MAIL: &str = "[alert.email]\nfrom = \"a@example.com\"\nto = [\"b@example.com\"]\n\
                    server = \"sendmail:/bin/false\"\n";

/// A guard with files `a`, `b` and `c`, of which the first `count` are protected.
fn guard(protected: &[&str], more: &str) -> Guard {
    let sandbox = Sandbox::on(Place::disk());
    for name in ["a", "b", "c"] {
        write_old(&sandbox.path(name), GOOD);
    }
    configure(&sandbox, protected, "", more);
    let mut guard = Guard::of(sandbox);
    for name in ["a", "b", "c"] {
        let path = guard.path(name);
        guard.regard_as_good(&path, Whole::of(&path).unwrap().locked());
    }
    guard.start();
    guard
}

fn configure(sandbox: &Sandbox, protected: &[&str], policy: &str, more: &str) {
    let mut toml = sandbox.daemon_table("");
    for name in protected {
        let path = sandbox.path(name);
        write!(toml, "[[protect]]\npaths = [{path:?}]\n{policy}\n").unwrap();
    }
    sandbox.configure(&(toml + more));
}

/// Asks for a reload and returns what came of it.
fn reload(guard: &Guard) -> Value {
    let seq = guard.last_seq();
    guard.signal(Signal::HUP);
    poll(
        || {
            let events = guard.events();
            let later = events.into_iter().filter(|event| event["seq"].as_u64() > Some(seq));
            let told = |event: &Value| {
                event["kind"].as_str().is_some_and(|kind| kind.starts_with("configuration-"))
            };
            later.into_iter().find(told)
        },
        || guard.story(),
    )
}

const REFUSED: &str = "steadfast_failures_total{failure=\"configuration-refused\"}";

/// What is on record of a configuration that is wrong. The commands need a right one.
fn refused(guard: &Guard, spoil: impl FnOnce()) -> Value {
    let right = std::fs::read_to_string(guard.config()).unwrap();
    let before = metrics(&guard.control())[REFUSED];
    let seq = guard.last_seq();
    spoil();
    guard.signal(Signal::HUP);
    let told = || (metrics(&guard.control())[REFUSED] > before).then_some(());
    poll(told, || guard.log());
    // Whoever asks how it is hears of it, be the file as wrong as it may.
    if let Some(in_force) = configuration(guard) {
        assert_eq!(in_force["state"], "degraded", "{in_force}");
    }
    guard.configure(&right);
    // That the file was changed is on record too.
    let refused = |event: &Value| event["kind"] == "configuration-refused";
    let last =
        || guard.events().into_iter().rfind(refused).filter(|e| e["seq"].as_u64() > Some(seq));
    poll(last, || guard.story())
}

/// What `status` says of the configuration, where the file still tells which daemon is meant.
fn configuration(guard: &Guard) -> Option<Value> {
    let output = guard.steadfast(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout).ok()?;
    let sensors = status["sensors"].as_array()?.clone();
    sensors.into_iter().find(|sensor| sensor["name"] == "configuration")
}

fn is_locked(path: &Path) -> bool {
    is_immutable(path) == Some(true)
}

fn assert_healed(guard: &Guard, path: &Path) {
    guard.write_surely(path, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole_at(path);
}

#[test]
fn what_is_added_is_guarded_what_is_gone_is_released_and_the_rest_never_goes_unguarded() {
    skip_unless!(not_root());
    let guard = guard(&["a", "b"], "");
    let [a, b, c] = ["a", "b", "c"].map(|name| guard.path(name));
    // Somebody tampers with what stays, all the time.
    let script = r#"while kill -0 $PPID; do chattr -i "$FILE"; echo x >> "$FILE"; done"#;
    let mut tamperer = std::process::Command::new("bash");
    tamperer.args(["-c", script]).env("FILE", &a).stderr(std::process::Stdio::null());
    let mut tamperer = tamperer.spawn().unwrap();
    for round in 0..3 {
        let protected: &[&str] = if round % 2 == 0 { &["a", "c"] } else { &["a", "b"] };
        configure(&guard, protected, "", "");
        let told = reload(&guard);
        assert_eq!(told["kind"], "configuration-loaded", "{told}");
        assert_eq!(told["note"], "1 path added, 1 path removed", "{told}");
    }
    tamperer.kill().unwrap();
    tamperer.wait().unwrap();
    guard.wait_whole_at(&a);
    poll(|| (!is_locked(&b)).then_some(()), || guard.story());
    assert!(is_locked(&c));
    assert_eq!(guard.status()["protected"], 2);
    assert_healed(&guard, &c);
    assert_healed(&guard, &a);
    let kinds = |path: &Path| -> Vec<Value> {
        guard.events_about(path).into_iter().map(|event| event["kind"].clone()).collect()
    };
    assert_eq!(kinds(&b), ["protected", "released", "protected", "released"]);
    assert!(kinds(&c).starts_with(&["protected".into(), "released".into(), "protected".into()]));
    // The path that was always protected was not let go for a moment.
    let let_go = |kind: &Value| kind == "released" || kind == "protected";
    assert_eq!(kinds(&a).into_iter().filter(let_go).count(), 1);
}

#[test]
fn a_wrong_file_is_refused_with_every_problem_and_changes_nothing() {
    skip_unless!(not_root());
    let guard = guard(&["a"], MAIL);
    let a = guard.path("a");
    let missing = guard.path("missing");
    for (toml, problems) in [
        ("paths = 7\n[[protect]]\nwhat = 1\n".to_owned(), vec!["paths", "what"]),
        (
            format!(
                "{}[[protect]]\npaths = [{missing:?}]\n[[protect]]\npaths = [\"/proc/version\"]\n",
                guard.daemon_table("")
            ),
            vec!["missing does not exist", "made up by the kernel"],
        ),
        (
            "[daemon]\nstate = \"/var/tmp/elsewhere\"\ncontrol = \"/var/tmp/other.sock\"\n".into(),
            vec!["`state` cannot change", "`control` cannot change", "restart it"],
        ),
    ] {
        let told = refused(&guard, || guard.configure(&toml));
        let note = told["note"].as_str().unwrap();
        assert!(problems.iter().all(|problem| note.contains(problem)), "{note}");
        assert_eq!(guard.status()["protected"], 1);
    }
    let told = refused(&guard, || std::fs::remove_file(guard.config()).unwrap());
    assert!(told["note"].as_str().unwrap().contains("is gone: put it back"), "{told}");
    assert!(!Path::new("/var/tmp/elsewhere").exists());
    assert_healed(&guard, &a);
    // A person is told of each.
    poll(
        || {
            let spool = std::fs::read_dir(guard.state().join("spool/items")).unwrap();
            let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
            let names = spool.filter_map(Result::ok).map(name);
            (names.filter(|name| name.starts_with("configuration-")).count() == 4).then_some(())
        },
        || guard.story(),
    );
    assert_eq!(metrics(&guard.control())[REFUSED], 4.0);
    let refused = configuration(&guard).unwrap();
    assert!(refused["why"].as_str().unwrap().contains("is gone"), "{refused}");
    // And once it is right again, it holds.
    configure(&guard, &["a", "b"], "", MAIL);
    assert_eq!(reload(&guard)["kind"], "configuration-loaded");
    assert_eq!(configuration(&guard).unwrap()["state"], "working");
    assert_healed(&guard, &guard.path("b"));
}

#[test]
fn a_file_that_cannot_be_protected_leaves_the_others_as_they_were() {
    skip_unless!(not_root());
    let guard = guard(&["a"], "");
    let tmpfs = Place::new("ramfs").expect("ramfs, which is part of every kernel");
    let readonly = tmpfs.dir().join("fixed");
    std::fs::write(&readonly, GOOD).unwrap();
    tmpfs.remount("ro");
    let b = guard.path("b");
    let toml = format!("[[protect]]\npaths = [{b:?}, {readonly:?}]\n");
    configure(&guard, &["a"], "", &toml);
    let told = reload(&guard);
    tmpfs.remount("rw");
    assert_eq!(told["kind"], "configuration-refused", "{told}");
    assert!(told["note"].as_str().unwrap().contains("read-only"), "{told}");
    assert!(!is_locked(&b));
    assert_eq!(guard.status()["protected"], 1);
}

#[test]
fn another_policy_holds_at_once() {
    skip_unless!(not_root());
    let guard = guard(&["a"], "");
    let a = guard.path("a");
    configure(&guard, &["a"], "immutable = false", "");
    assert_eq!(reload(&guard)["note"], "1 path with another policy");
    poll(|| (!is_locked(&a)).then_some(()), || guard.story());
    // Without the bit, and still healed.
    std::fs::write(&a, "x").unwrap();
    poll(|| (std::fs::read(&a).unwrap() == GOOD).then_some(()), || guard.story());
    guard.wait_settled();

    configure(&guard, &["a"], "immutable = false\nrestore = false", "");
    assert_eq!(reload(&guard)["note"], "1 path with another policy");
    let seq = guard.last_seq();
    std::fs::write(&a, "left").unwrap();
    poll(
        || {
            let told = guard.events_about(&a).into_iter().any(|event| {
                event["seq"].as_u64() > Some(seq) && event["kind"] == "content-changed"
            });
            told.then_some(())
        },
        || guard.story(),
    );
    assert_eq!(std::fs::read(&a).unwrap(), b"left");

    configure(&guard, &["a"], "", "");
    assert_eq!(reload(&guard)["note"], "1 path with another policy");
    guard.wait_whole_at(&a);
}

#[test]
fn sweeps_mail_and_the_health_address_follow() {
    skip_unless!(not_root());
    let guard = guard(&["a"], "");
    let address = loop {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let table = guard.daemon_table(&format!("listen = {address:?}\nflag_sweep = \"7s\""));
        guard.configure(&format!("{table}{MAIL}[[protect]]\npaths = [{:?}]\n", guard.path("a")));
        let told = reload(&guard);
        let note = told["note"].as_str().unwrap();
        if told["kind"] == "configuration-loaded" {
            let expected = format!("alert.email changed, flag_sweep is 7s, listen is {address}");
            assert_eq!(note, expected);
            break address;
        }
        assert!(note.contains("set `listen`"), "{note}");
    };
    poll(|| (ask_tcp(&address, "GET", "/readyz")?.0 == 200).then_some(()), || guard.story());
    assert_eq!(metrics(&guard.control())["steadfast_worst_case_notice_seconds"], 7.0);
    // It has a mail process now.
    assert_healed(&guard, &guard.path("a"));
    let mailed = || {
        let all = std::fs::read_dir(guard.state().join("spool/items")).unwrap();
        (all.count() > 0).then_some(())
    };
    poll(mailed, || guard.story());
    configure(&guard, &["a"], "", "");
    let told = reload(&guard);
    let note = "alert.email changed, flag_sweep is auto, listen is off";
    assert_eq!(told["note"], note);
    poll(|| ask_tcp(&address, "GET", "/livez").is_none().then_some(()), || guard.story());
    assert_eq!(ask(&guard.control(), "/livez").0, 200);
}

#[test]
fn a_reload_that_changes_nothing_says_so() {
    skip_unless!(not_root());
    let guard = guard(&["a"], "");
    assert_eq!(reload(&guard)["note"], "nothing changed");
    assert_healed(&guard, &guard.path("a"));
}

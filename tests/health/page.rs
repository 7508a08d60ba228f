//! `/livez`, `/readyz`, `/metrics`.

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};

use crate::common::{GOOD, Guard, MARKER, Place, Sandbox, not_root, poll, skip_unless, text};
use crate::http::{ask, ask_tcp, metrics, try_ask};
use std::os::unix::fs::FileExt as _;

#[test]
fn it_is_ready_only_when_everything_was_compared() {
    skip_unless!(not_root());
    let sandbox = Sandbox::on(Place::disk());
    let large = sandbox.path("large");
    std::fs::File::create(&large).unwrap().set_len(256 << 20).unwrap();
    sandbox.configure(&format!("{}[[protect]]\npaths = [{large:?}]\n", sandbox.daemon_table("")));
    let mut guard = Guard::of(sandbox);
    let socket = guard.control();
    // The first answers come while the file is read.
    let first = std::thread::spawn(move || poll(|| try_ask(&socket, "/readyz"), String::new));
    guard.start();
    let (code, told) = first.join().unwrap();
    assert_eq!((code, told.starts_with("starting: ")), (503, true), "{told}");
    let (code, told) = ask(&guard.control(), "/readyz");
    assert_eq!((code, told.starts_with("watching")), (200, true), "{told}");
    assert_eq!(ask(&guard.control(), "/livez"), (200, "alive\n".to_owned()));
}

#[test]
fn the_metrics_tell_what_happened() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let before = metrics(&guard.control());
    // What never happened is told to be nothing: an alert rule has to see the first time.
    for name in [
        "steadfast_events_total{kind=\"events-lost\"}",
        "steadfast_heals_total{outcome=\"failed\"}",
        "steadfast_failures_total{failure=\"journal-unwritable\"}",
        "steadfast_attributions_total{confidence=\"unknown\"}",
        "steadfast_heal_duration_seconds_count",
    ] {
        assert_eq!(before.get(name), Some(&0.0), "{name}: {before:#?}");
    }
    assert_eq!(before["steadfast_protected_files"], 1.0);
    assert_eq!(before["steadfast_sensor_state{sensor=\"sweep\",state=\"working\"}"], 1.0);

    let file = guard.file();
    guard.write_surely(&file, |file| file.write_all_at(MARKER, 2));
    guard.wait_whole();
    guard.wait_settled();
    let after = poll(
        || {
            let now = metrics(&guard.control());
            let written = now["steadfast_events_total{kind=\"restored\"}"] >= 1.0;
            (written && now["steadfast_journal_backlog_lines"] == 0.0).then_some(now)
        },
        || guard.story(),
    );
    assert!(after["steadfast_events_total{kind=\"content-changed\"}"] >= 1.0, "{after:#?}");
    assert!(after["steadfast_heals_total{outcome=\"healed\"}"] >= 1.0, "{after:#?}");
    assert!(after["steadfast_heal_duration_seconds_count"] >= 1.0, "{after:#?}");
    assert!(after["steadfast_heal_duration_seconds_sum"] > 0.0, "{after:#?}");
    assert!(after["steadfast_last_sweep_timestamp_seconds"] > 1.7e9, "{after:#?}");
    let named: f64 = after
        .iter()
        .filter(|(name, _)| name.starts_with("steadfast_attributions_total"))
        .map(|(_, count)| count)
        .sum();
    assert!(named >= 1.0, "{after:#?}");
}

#[test]
fn the_metrics_keep_to_the_conventions_of_prometheus() {
    skip_unless!(not_root());
    let guard = Guard::on_disk().file("main.py", GOOD).start();
    let (_, page) = ask(&guard.control(), "/metrics");
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut kinds = Vec::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            assert!(told.insert(name), "{name} is there twice");
            assert!(help.ends_with('.'), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(name.starts_with("steadfast_") && told.contains(name), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            let unit = ["_seconds", "_lines", "_notes", "_messages", "_files"];
            let dimensionless = ["_info", "_state", "_incidents", "_shortcomings", "_route"];
            let known = unit.iter().chain(&dimensionless).any(|end| name.ends_with(end));
            assert!(kind == "counter" || known, "{line}");
            kinds.push(name);
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let known = |kind: &&str| {
                let rest = name.strip_prefix(*kind);
                rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
            };
            assert!(kinds.iter().any(known), "{line}");
        }
    }
    assert!(page.ends_with('\n') && !kinds.is_empty());
}

#[test]
fn on_loopback_health_can_be_read_and_nothing_else_be_done() {
    skip_unless!(not_root());
    // A port that was free a moment ago; where somebody else took it, another one.
    let (guard, address) = loop {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let sandbox = Sandbox::on(Place::disk());
        sandbox.configure(&sandbox.daemon_table(&format!("listen = \"{address}\"")));
        let mut guard = Guard::of(sandbox);
        if guard.try_start() {
            break (guard, address);
        }
        assert!(guard.log().contains("set `listen`"), "{}", guard.log());
    };
    for what in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(ask_tcp(&address, "GET", what).unwrap().0, 200, "{what}");
    }
    // Who connects and says nothing keeps nobody out.
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(&address).unwrap()).collect();
    assert_eq!(ask_tcp(&address, "GET", "/livez").unwrap().0, 200);
    drop(silent);
    assert_eq!(ask_tcp(&address, "GET", "/status").unwrap().0, 403);
    for what in ["/protect", "/release", "/restore", "/accept", "/selftest"] {
        assert_eq!(ask_tcp(&address, "POST", what).unwrap().0, 403, "{what}");
    }
    drop(guard);
    assert!(ask_tcp(&address, "GET", "/livez").is_none());
}

#[test]
fn an_address_that_others_can_reach_is_refused_by_config_check() {
    let sandbox = Sandbox::on(Place::disk());
    for address in ["0.0.0.0:9733", "192.0.2.1:9733", "[::]:9733"] {
        sandbox.configure(&sandbox.daemon_table(&format!("listen = \"{address}\"")));
        let output = sandbox.steadfast(&["config", "check"]);
        assert_eq!(output.status.code(), Some(1));
        let told = text(&output.stdout) + &text(&output.stderr);
        assert!(told.contains("is not a loopback address: use 127.0.0.1 or [::1]"), "{told}");
    }
}

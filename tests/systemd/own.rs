//! The units that start it, and what changes how: watched by default, as the program is.

use serde_json::Value;

use super::room::{Room, no_room};
use crate::common::skip_unless;

const UNITS: &str = "/etc/systemd/system";

/// The journal's lines about `path` that tell of a change.
fn changes(room: &Room, path: &str) -> Vec<Value> {
    let mut all = room.all_events();
    all.retain(|event| {
        let kind = event["kind"].as_str().unwrap();
        event["path"] == path && crate::common::TAMPERING.contains(&kind)
    });
    all
}

/// Waits until these are watched.
fn wait_watched(room: &Room, paths: &[&str]) {
    room.wait_until("its own files are watched", |room| {
        let status: Value = serde_json::from_str(&room.told("steadfast status --json")).unwrap();
        assert_eq!(status["protected"], 1, "{status}");
        let own = status["own"].as_array().unwrap();
        paths.iter().all(|path| own.iter().any(|one| one["path"] == *path))
    });
}

#[test]
fn a_unit_that_is_changed_a_drop_in_that_is_new_and_a_service_that_is_disabled_are_told() {
    skip_unless!(no_room());
    let mut room = Room::installed("");
    room.boot();
    let unit = format!("{UNITS}/steadfast-audit.timer");
    let drop_in = format!("{UNITS}/steadfast.service.d/evil.conf");
    let enabled = format!("{UNITS}/multi-user.target.wants/steadfast.service");
    let program = "/usr/local/bin/steadfast";
    wait_watched(&room, &[&unit, &enabled, program, "/etc/steadfast/steadfast.toml"]);
    assert_eq!(changes(&room, &unit), [] as [Value; 0]);

    room.told(&format!("echo '# changed' >> {unit}"));
    room.told(&format!("mkdir -p {UNITS}/steadfast.service.d; echo '[Service]' > {drop_in}"));
    room.told("systemctl disable steadfast.service");
    for path in [&unit, &drop_in, &enabled] {
        room.wait_until("it is told", |room| !changes(room, path).is_empty());
    }
    wait_watched(&room, &[&unit, &drop_in]);
    assert!(room.told(&format!("cat {unit}")).ends_with("# changed"), "it stays as it is");

    // An upgrade is told of, and a restart after it of nothing.
    room.install();
    room.wait_until("the upgrade is told", |room| !changes(room, program).is_empty());
    let before = room.process_after(None);
    room.told("systemctl restart steadfast.service");
    room.process_after(Some(&before));
    wait_watched(&room, &[&unit, &drop_in, program]);
    room.wait_until("nothing is open", |room| {
        let status: Value = serde_json::from_str(&room.told("steadfast status --json")).unwrap();
        status["open_incidents"] == 0
    });
    let told = changes(&room, program).len();
    let before = room.process_after(None);
    room.told("systemctl restart steadfast.service");
    room.process_after(Some(&before));
    wait_watched(&room, &[&unit, &drop_in, program]);
    assert_eq!(changes(&room, program).len(), told, "{}", room.story());
    room.power_off();
}

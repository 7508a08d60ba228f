//! What happens while nobody is on guard is queued where the service starts again, and told then
//! with who did it.

use serde_json::Value;

use super::room::{FILE, Room, no_room};
use crate::common::skip_unless;

/// Another file, which anybody can replace.
const STEADY: &str = "[[protect]]\npaths = ['/srv/app/steady']\nimmutable = false\n";

/// Keeps the next start waiting for as long as there is this file.
const SLOW: &str =
    "[Service]\nExecStartPre=/bin/sh -c 'while [ -e /root/hold ]; do sleep 0.1; done'\n";

/// The configuration, one of the daemon's own files.
const OWN: &str = "/etc/steadfast/steadfast.toml";

/// Writes to the protected file and to the configuration, and lives on.
const WRITER: &str = "echo '#' >>OWN; chattr -i FILE; echo evil >>FILE; while :; do sleep 1; done";

/// Replaces the other file, and is gone.
const REPLACER: &str =
    "echo evil >/srv/app/new; echo $$ >/root/gone; exec mv -f /srv/app/new /srv/app/steady";

fn slow_room() -> Room {
    let mut room = Room::installed(STEADY);
    room.write("/srv/app/steady", "good\n");
    room.write("/etc/systemd/system/steadfast.service.d/slow.conf", SLOW);
    room.boot();
    room
}

/// Has `end` end the daemon, both tamperers at work before the next one starts, and returns their
/// pids and when they began and were done.
fn tamper_in_between(room: &Room, end: &str) -> (u64, u64, [jiff::Timestamp; 2]) {
    let before = room.process_after(None);
    room.write("/root/hold", "");
    room.told(end);
    room.wait_until("nobody is on guard", |room| room.property("SubState") == "start-pre");
    let began = jiff::Timestamp::now();
    room.write("/root/write", &WRITER.replace("FILE", FILE).replace("OWN", OWN));
    room.told("systemd-run -q --unit=writer bash /root/write");
    room.wait_until("it is written to", |room| {
        std::fs::read_to_string(room.path(FILE)).unwrap().contains("evil")
    });
    room.told(&format!("bash -c '{REPLACER}'"));
    let done = jiff::Timestamp::now();
    room.told("rm /root/hold");
    room.process_after(Some(&before));
    room.wait_until("all is whole", |room| {
        let steady = std::fs::read_to_string(room.path("/srv/app/steady")).unwrap();
        room.is_whole() && steady == "good\n"
    });
    let number = |text: String| text.parse().unwrap();
    let writer = number(room.told("systemctl show -p MainPID --value writer.service"));
    (writer, number(room.told("cat /root/gone")), [began, done])
}

/// The only line of this kind about this path.
fn line(room: &Room, path: &str, kind: &str) -> Value {
    let of = |event: &&Value| event["path"] == path && event["kind"] == kind;
    room.wait_until("it is on record", |room| room.all_events().iter().any(|one| of(&one)));
    let all: Vec<_> = room.all_events().into_iter().filter(|one| of(&one)).collect();
    assert_eq!(all.len(), 1, "{all:#?}\n{}", room.story());
    all[0].clone()
}

fn assert_told(room: &Room, end: &str, confidence: &str) {
    let (writer, replacer, [began, done]) = tamper_in_between(room, end);
    let [written, own] = [FILE, OWN].map(|path| line(room, path, "content-changed"));
    for told in [&written, &own] {
        assert_eq!(told["actor"]["pid"], writer, "{told}\n{}", room.story());
        assert_eq!(told["actor"]["comm"], "bash", "{told}");
        assert_eq!(told["actor"]["unit"], "writer.service", "{told}");
        assert_eq!(told["attribution"]["confidence"], confidence, "{told}");
    }
    let time = |end: &str| -> jiff::Timestamp {
        written["window"][end].as_str().unwrap_or_default().parse().unwrap()
    };
    // The clock of files is some milliseconds behind.
    let late = jiff::SignedDuration::from_millis(20);
    let (from, to) = (time("from"), time("to"));
    assert!(from <= began && began - late <= to && to <= done, "{began} {done}: {written}");

    // Of the other only the number is left, which is that of no one by now.
    let replaced = line(room, "/srv/app/steady", "replaced");
    assert_eq!(replaced["actor"], Value::Null, "{replaced}");
    let note = replaced["note"].as_str().unwrap_or_default();
    assert!(note.contains(&format!("process {replacer} did it")), "{replaced}");
    assert!(replaced["window"]["from"].is_string(), "{replaced}");

    let all = room.all_events();
    assert!(all.iter().all(|event| event["kind"] != "drift-found"), "{}", room.story());
}

#[test]
fn whoever_tampers_while_the_service_restarts_is_named() {
    skip_unless!(no_room());
    let mut room = slow_room();
    assert_told(&room, "systemctl restart --no-block steadfast.service", "exact");
    let stopped = room.all_events().into_iter().find(|event| event["kind"] == "stopped").unwrap();
    assert!(stopped["note"].as_str().unwrap_or_default().contains("queued"), "{stopped}");
    // What the run before left was given back.
    room.wait_until("the manager keeps what one run has", |room| {
        room.property("NFileDescriptorStore") == "1"
    });
    room.power_off();
}

/// What it saw last of all nobody knows any more, so nobody is named for sure.
#[test]
fn whoever_tampers_after_a_kill_and_before_the_next_start_is_named() {
    skip_unless!(no_room());
    let mut room = slow_room();
    let kill = "kill -KILL $(systemctl show -p MainPID --value steadfast.service)";
    assert_told(&room, kill, "opener");
    room.power_off();
}

#[test]
fn after_a_stop_nothing_is_kept_and_the_next_start_finds_what_was_changed() {
    skip_unless!(no_room());
    let mut room = slow_room();
    room.told("systemctl stop steadfast.service");
    assert_eq!(room.property("NFileDescriptorStore"), "0", "{}", room.story());
    std::fs::write(room.path("/srv/app/steady"), "evil\n").unwrap();
    room.told("systemctl start steadfast.service");
    let drift = line(&room, "/srv/app/steady", "drift-found");
    assert!(drift["window"]["from"].is_string(), "{drift}");
    let stopped = room.all_events().into_iter().find(|event| event["kind"] == "stopped").unwrap();
    assert_eq!(stopped["note"], Value::Null, "{stopped}");
    room.power_off();
}

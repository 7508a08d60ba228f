//! No gap over a restart: a ledger of steady tampering, while the daemon comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use super::room::{Room, no_room};
use crate::common::{TAMPERING, skip_unless};

/// Files that anybody can replace at any time: a tampering is one rename.
const STEADY: &str = "[[protect]]\npaths = ['/srv/app/steady*']\nimmutable = false\n";
const FILES: usize = 250;

/// Each content comes once, and never soon to the same file again: what comes at once again
/// belongs to the incident before.
const TAMPERER: &str = "\
for ((n = 1;; n++)); do
    file=/srv/app/steady$((n % FILES))
    until [ \"$(<$file)\" = good ]; do sleep 0.01; done
    [ -e /root/enough ] && break
    echo \"evil $n\" >/srv/app/other
    sum=$(sha256sum </srv/app/other)
    mv -f /srv/app/other $file
    echo ${sum%% *} >>/root/ledger
    sleep 0.04
done
for file in /srv/app/steady*; do
    until [ \"$(<$file)\" = good ]; do sleep 0.01; done
done
";

/// Asks for the daemon's health as fast as it is answered.
const ASKER: &str = "\
until [ -e /root/enough ]; do
    curl -s -o /dev/null -w '%{http_code} ' --max-time 100 \\
        --unix-socket /run/steadfast/control.sock http://localhost/livez
    echo $?
done >/root/asked
";

/// A room where somebody tampers and somebody asks, all the while.
fn busy_room() -> Room {
    let mut room = Room::installed(STEADY);
    for number in 0..FILES {
        room.write(&format!("/srv/app/steady{number}"), "good\n");
    }
    room.write("/root/tamper", &TAMPERER.replace("FILES", &FILES.to_string()));
    room.write("/root/ask", ASKER);
    room.boot();
    room.told("systemd-run -q --unit=tamper bash /root/tamper");
    room.told("systemd-run -q --unit=ask bash /root/ask");
    room
}

/// Ends both, and reads what they wrote down: each content that was there, each answer.
fn end(room: &Room) -> (Vec<String>, Vec<String>) {
    room.write("/root/enough", "");
    room.wait_until("all is whole, and nobody is at it any more", |room| {
        let both = "systemctl is-active tamper ask";
        let over = !text(room, both).lines().any(|state| state == "active");
        over && text(room, "steadfast status").contains("0 open incidents")
    });
    let lines = |path| -> Vec<String> {
        std::fs::read_to_string(room.path(path)).unwrap().lines().map(str::to_owned).collect()
    };
    (lines("/root/ledger"), lines("/root/asked"))
}

fn text(room: &Room, script: &str) -> String {
    crate::common::text(&room.sh(script).stdout)
}

/// How many incidents tell of each content.
fn told(room: &Room) -> BTreeMap<String, usize> {
    let mut incidents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in room.all_events() {
        let tampering = TAMPERING.contains(&event["kind"].as_str().unwrap());
        if let (true, Some(sum)) = (tampering, event["after"]["sha256"].as_str()) {
            let incident = event["incident"].as_str().unwrap_or_default().to_owned();
            incidents.entry(sum.to_owned()).or_default().insert(incident);
        }
    }
    incidents.into_iter().map(|(sum, all)| (sum, all.len())).collect()
}

fn assert_each_told_once(room: &Room, ledger: &[String]) {
    let told = told(room);
    let wrong: Vec<_> = ledger
        .iter()
        .enumerate()
        .map(|(number, sum)| (number + 1, told.get(sum).copied().unwrap_or(0)))
        .filter(|(_, times)| *times != 1)
        .collect();
    let Some((first, _)) = wrong.first() else { return };
    let path = format!("/srv/app/steady{}", first % FILES);
    let lines: Vec<_> = room.all_events().into_iter().filter(|e| e["path"] == *path).collect();
    let sum = &ledger[first - 1];
    let count = ledger.len();
    panic!("of {count}, (number, times): {wrong:?}\n{sum}: {lines:#?}\n{}", room.story());
}

#[test]
fn over_fifty_restarts_all_tampering_is_healed_and_told_once_and_every_client_answered() {
    skip_unless!(no_room());
    let mut room = busy_room();
    room.told("for n in {1..50}; do systemctl restart steadfast.service || exit; done");
    let (ledger, asked) = end(&room);
    assert!(ledger.len() >= 50 && asked.len() >= 50, "{} {}", ledger.len(), asked.len());
    let unanswered: Vec<_> = asked.iter().filter(|line| *line != "200 0").collect();
    assert!(unanswered.is_empty(), "of {}: {unanswered:?}\n{}", asked.len(), room.story());
    assert_each_told_once(&room, &ledger);
    println!("{} tamperings, {} requests", ledger.len(), asked.len());
    room.power_off();
}

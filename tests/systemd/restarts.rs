//! No gap over a restart: a ledger of steady tampering, while the daemon comes and goes.

use std::collections::{BTreeMap, BTreeSet};

use super::room::{Room, no_room};
use crate::common::skip_unless;

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

/// Asks for the daemon's health as fast as it is answered, and first where nobody listens: that
/// has to be told as it would be here. curl has one code for who is refused and for who is let in
/// and hung up on before it says anything; in words it tells them apart.
const ASKER: &str = "\
ask() {
    curl -sv -o /dev/null -w '%{http_code} ' --max-time 100 \\
        --unix-socket $1 http://localhost/livez 2>/root/said
    echo $? $(grep -c 'Immediate connect fail' /root/said)
}
ask /root/nobody >/root/asked
until [ -e /root/enough ]; do
    ask /run/steadfast/control.sock
done >>/root/asked
";
const REFUSED: &str = "000 7 1";

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
    let mut asked = lines("/root/asked");
    assert_eq!(asked.remove(0), REFUSED, "where nobody listens");
    (lines("/root/ledger"), asked)
}

fn text(room: &Room, script: &str) -> String {
    crate::common::text(&room.sh(script).stdout)
}

/// How many incidents tell of each content.
fn told(room: &Room) -> BTreeMap<String, usize> {
    let mut incidents: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in room.all_events() {
        if let Some(sum) = event["after"]["sha256"].as_str() {
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
    let sum = &ledger[first - 1];
    let all = room.all_events();
    let count = ledger.len();
    // What was told at that time tells most, of whichever file.
    let told_of = |number: usize| {
        let sum = ledger.get(number.checked_sub(1)?)?;
        all.iter().position(|event| event["after"]["sha256"] == **sum)
    };
    let from = (1..*first).rev().find_map(told_of).unwrap_or(0).saturating_sub(20);
    let to = (first + 1..=count).find_map(told_of).map_or(all.len(), |at| (at + 20).min(all.len()));
    let brief = |event: &serde_json::Value| {
        let [seq, time, kind, path, incident, note] =
            ["seq", "time", "kind", "path", "incident", "note"].map(|name| &event[name]);
        format!("{seq} {time} {kind} {path} {incident} {note} {}", event["response"])
    };
    let then: Vec<_> = all[from..to].iter().map(brief).collect();
    let of_it: Vec<_> = all.iter().filter(|event| event["path"] == *path).map(brief).collect();
    panic!(
        "of {count}, (number, times): {wrong:?}\n{sum}\n{}\n--- of {path}\n{}\n--- tamperer\n{}\n{}",
        then.join("\n"),
        of_it.join("\n"),
        text(room, "journalctl --no-pager -b -u tamper | tail -20"),
        room.story()
    );
}

/// What was found after a restart happened after the start before the last.
fn assert_windows_are_narrow(events: &[serde_json::Value]) {
    let time = |text: &serde_json::Value| -> jiff::Timestamp {
        text.as_str().unwrap_or_default().parse().unwrap()
    };
    let mut starts = Vec::new();
    for event in events {
        if event["kind"] == "started" {
            starts.push(time(&event["time"]));
        }
        if let (true, [.., before, _, _]) = (event["kind"] == "drift-found", &starts[..]) {
            assert!(time(&event["window"]["from"]) > *before, "{event}");
        }
    }
}

#[test]
fn over_fifty_restarts_all_tampering_is_healed_and_told_once_and_every_client_answered() {
    skip_unless!(no_room());
    let mut room = busy_room();
    room.told("for n in {1..50}; do systemctl restart steadfast.service || exit; done");
    let (ledger, asked) = end(&room);
    assert!(ledger.len() >= 50 && asked.len() >= 50, "{} {}", ledger.len(), asked.len());
    let unanswered: Vec<_> = asked.iter().filter(|line| *line != "200 0 0").collect();
    assert!(unanswered.is_empty(), "of {}: {unanswered:?}\n{}", asked.len(), room.story());
    assert_each_told_once(&room, &ledger);
    let events = room.all_events();
    let of_kind = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    let (drift, lost) = (of_kind("drift-found"), of_kind("events-lost"));
    assert_eq!(lost, 0, "{}", room.story());
    assert_windows_are_narrow(&events);
    let (told, asked) = (ledger.len(), asked.len());
    println!("{told} tamperings, {drift} of which no event told, {asked} requests");
    room.power_off();
}

#[test]
fn killed_again_and_again_it_heals_everything_tells_it_once_and_refuses_nobody() {
    skip_unless!(no_room());
    let mut room = busy_room();
    let mut process = room.process_after(None);
    for _ in 0..20 {
        room.told(&format!("kill -KILL {process}"));
        process = room.process_after(Some(&process));
    }
    let (ledger, asked) = end(&room);
    assert!(ledger.len() >= 20 && asked.len() >= 20, "{} {}", ledger.len(), asked.len());
    // Whoever was being answered when it was killed gets no answer. To connect is never refused.
    let broken: Vec<_> = asked.iter().filter(|line| *line != "200 0 0").collect();
    let refused = broken.iter().any(|line| !line.ends_with(" 0"));
    assert!(!refused && broken.len() <= 20, "{broken:?}\n{}", room.story());
    assert_each_told_once(&room, &ledger);
    let (told, asked, broken) = (ledger.len(), asked.len(), broken.len());
    println!("{told} tamperings, {asked} requests, {broken} broken off");
    room.power_off();
}

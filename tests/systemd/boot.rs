//! Installed, enabled, booted; and booted again.

use super::room::{FILE, GOOD, Room, no_room};
use crate::common::skip_unless;

/// Writes to the protected file; whether the write got through is not told.
const TAMPER: &str = "chattr -i /srv/app/main.py && echo evil >> /srv/app/main.py";

#[test]
fn installed_and_booted_it_is_ready_before_ordinary_services_and_heals() {
    skip_unless!(no_room());
    let mut room = Room::installed("");
    room.boot();
    assert_eq!(room.property("SubState"), "running", "{}", room.story());
    assert!(room.is_whole(), "{}", room.story());
    let since = |unit: &str| -> u64 {
        let show = format!("systemctl show -p ActiveEnterTimestampMonotonic --value {unit}");
        room.told(&show).parse().unwrap()
    };
    assert!(since("steadfast.service") < since("dbus.service"), "{}", room.story());
    assert!(room.property("StatusText").contains("1 path protected"), "{}", room.story());

    room.sh(TAMPER);
    room.wait_until("it is healed", |room| {
        room.is_whole() && !room.events(&["restored", "relocked"]).is_empty()
    });
    room.power_off();
    assert_eq!(std::fs::read_to_string(room.path(FILE)).unwrap(), GOOD);
}

#[test]
fn what_was_changed_while_the_machine_was_off_is_healed_before_it_is_ready() {
    skip_unless!(no_room());
    let mut room = Room::installed("");
    // Who comes after it finds the file whole.
    room.write(
        "/etc/systemd/system/reader.service",
        "[Service]\nType=oneshot\nExecStart=/bin/cp /srv/app/main.py /root/found\n\
         [Install]\nWantedBy=multi-user.target\n",
    );
    room.boot();
    room.told("systemctl enable reader.service");
    room.power_off();
    let path = room.path(FILE);
    crate::common::chattr("-i", &path);
    std::fs::write(&path, "print('evil')\n").unwrap();

    room.boot();
    assert!(room.is_whole(), "{}", room.story());
    assert_eq!(std::fs::read_to_string(room.path("/root/found")).unwrap(), GOOD);
    let drift = room.events(&["drift-found"]);
    assert_eq!(drift.len(), 1, "{}", room.story());
    let window = |end: &str| -> jiff::Timestamp {
        drift[0]["window"][end].as_str().unwrap_or_default().parse().unwrap()
    };
    assert!(window("from") < window("to"), "{drift:?}");
    let healed = &room.events(&["restored"]);
    assert_eq!(healed.len(), 1, "{}", room.story());
    let at: jiff::Timestamp = drift[0]["time"].as_str().unwrap().parse().unwrap();
    let ready = "systemctl show -p ActiveEnterTimestamp --value --timestamp=us+utc steadfast";
    let ready = room.told(ready);
    let ready = jiff::civil::DateTime::strptime("%a %Y-%m-%d %H:%M:%S%.f UTC", &ready).unwrap();
    let ready = ready.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp();
    assert!(at < ready, "found at {at}, ready at {ready}");
    room.power_off();
}

/// A daemon that is stopped by a signal answers nobody who opens the file, until the watchdog bites.
#[test]
fn a_stalled_daemon_is_started_anew_by_the_watchdog_and_heals_again() {
    skip_unless!(no_room());
    let mut room = Room::installed("");
    room.boot();
    let stopped = room.process_after(None);
    room.told(&format!("kill -STOP {stopped}"));
    room.process_after(Some(&stopped));
    assert_eq!(room.property("NRestarts"), "1", "{}", room.story());
    room.sh(TAMPER);
    room.wait_until("it is healed", |room| {
        room.is_whole() && !room.events(&["restored", "relocked"]).is_empty()
    });
    room.power_off();
}

#[test]
fn mail_goes_out_by_a_process_of_its_own_user() {
    skip_unless!(no_room());
    // Nobody listens there: what counts is that it is tried, and the attempt written down.
    let mut room = Room::installed(
        "[alert.email]\nfrom = 'a@example.com'\nto = ['b@example.com']\n\
         server = 'smtp://127.0.0.1:2525'\ntls = 'none'\n",
    );
    room.boot();
    room.sh(TAMPER);
    room.wait_until("the attempt is on record", |room| {
        let failed = room.told("steadfast events --json");
        failed.lines().any(|line| line.contains("\"alert-failed\"") && line.contains("2525"))
    });
    let deliver = "systemctl show -p MainPID --value steadfast-deliver.service";
    let user = room.told(&format!("stat -c %u /proc/$({deliver})"));
    assert!(user.parse::<u32>().unwrap() > 1000, "user {user}\n{}", room.story());
    room.power_off();
}

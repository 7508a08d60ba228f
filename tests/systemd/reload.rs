//! `systemctl reload`.

use super::room::{Room, no_room};
use crate::common::skip_unless;

#[test]
fn a_reload_with_a_wrong_configuration_fails_and_changes_nothing() {
    skip_unless!(no_room());
    let mut room = Room::installed("");
    room.boot();
    let before = room.property("MainPID");
    let config = std::fs::read_to_string(room.path("/etc/steadfast/steadfast.toml")).unwrap();
    room.write("/etc/steadfast/steadfast.toml", &format!("{config}colour = 'red'\n"));
    let refused = room.sh("systemctl reload steadfast.service");
    assert!(!refused.status.success(), "{}", room.story());
    assert_eq!(room.property("MainPID"), before);
    assert_eq!(room.property("SubState"), "running");
    // No command works with a configuration that is wrong.
    room.write("/etc/steadfast/steadfast.toml", &config);
    room.wait_until("the refusal is on record", |room| {
        room.all_events().iter().any(|event| event["kind"] == "configuration-refused")
    });

    let other = "/srv/app/other.py";
    room.write(other, "print('other')\n");
    let more = format!("{config}[[protect]]\npaths = ['{other}']\n");
    room.write("/etc/steadfast/steadfast.toml", &more);
    room.told("systemctl reload steadfast.service");
    room.wait_until("the other file is protected", |room| {
        crate::common::is_immutable(&room.path(other)) == Some(true)
    });
    assert_eq!(room.property("MainPID"), before);
    assert!(room.is_whole());
    room.power_off();
}

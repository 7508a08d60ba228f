//! Where audit is not to be had, it is said, and the next best names whom it can.

use crate::common::{GOOD, Guard, incident_of, missing, not_root, skip_unless};
use crate::sensor;
use crate::tamper::{finish, start};

#[test]
fn without_audit_it_says_why_and_still_names_who_opened_the_file() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let _room = crate::alone();
    for capability in ["audit_control", "audit_read"] {
        let guard = Guard::on_disk().file("main.py", GOOD).without(capability).start();
        let audit = sensor(&guard, "audit");
        assert_eq!(audit["state"], "unavailable", "{audit}");
        let why = audit["why"].as_str().unwrap();
        assert!(why.contains("CAP_AUDIT_CONTROL and CAP_AUDIT_READ"), "what to do: {why}");
        assert_eq!(guard.status()["state"], "degraded");

        let seq = guard.last_seq();
        let child = start("setflags", "nothing", &guard.file());
        let pid = child.id();
        finish(child);
        let incident = incident_of(&guard, &guard.file(), seq);
        let line = incident.changes().next().unwrap();
        assert_eq!(line["actor"]["pid"], pid, "{line}");
        assert_eq!(line["attribution"]["confidence"], "opener", "{line}");
        guard.wait_whole();
    }
}

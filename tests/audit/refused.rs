//! Where audit is not to be had, it is said, and the next best names whom it can.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

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

/// Maps the file to write, says so, writes through the mapping when it is told to, says so, and
/// keeps it open until its input ends.
const WRITER: &str = "\
import mmap, sys
with open(sys.argv[1], 'r+b') as file, mmap.mmap(file.fileno(), 0) as bytes:
    print('mapped', flush=True)
    sys.stdin.readline()
    bytes[0:4] = b'EVIL'
    print('written', flush=True)
    sys.stdin.readline()
";

#[test]
fn whoever_can_write_through_a_mapping_is_named_before_those_who_only_read_afterwards() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv", "python3"])));
    let _room = crate::alone();
    let guard = Guard::on_disk().policy("immutable = false").without("audit_control");
    let guard = guard.without("audit_read").file("main.py", GOOD).start();
    let (file, seq) = (guard.file(), guard.last_seq());
    let mut writer = Command::new("python3");
    writer.args(["-c", WRITER]).arg(&file);
    let mut writer = writer.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut input, output) = (writer.stdin.take().unwrap(), writer.stdout.take().unwrap());
    let mut said = BufReader::new(output).lines();
    assert_eq!(said.next().unwrap().unwrap(), "mapped");
    input.write_all(b"\n").unwrap();
    assert_eq!(said.next().unwrap().unwrap(), "written");
    assert!(Command::new("cat").arg(&file).stdout(Stdio::null()).status().unwrap().success());
    let incident = incident_of(&guard, &file, seq);
    drop(input);
    writer.wait().unwrap();
    let told = |line: &&serde_json::Value| line["kind"] == "content-changed";
    let line = incident.changes().find(told).unwrap_or_else(|| panic!("{}", incident.story));
    assert_eq!(line["actor"]["pid"], writer.id(), "{line}\n{}", incident.story);
    assert_eq!(line["attribution"]["confidence"], "opener", "{line}");
}

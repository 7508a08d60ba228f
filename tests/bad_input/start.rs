//! What is wrong before the daemon has begun: all of it is told at once, and nothing is touched.

use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{CWD, FileType, Mode};

use super::sandbox;
use crate::common::{self, GOOD, is_immutable, not_root, skip_unless, text};

#[test]
fn everything_that_keeps_the_daemon_from_starting_is_told_at_once() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    // Something that is no socket has the socket's name, the state is open to others, and neither
    // of two paths is there.
    std::fs::write(sandbox.control(), "").unwrap();
    std::fs::create_dir(sandbox.state()).unwrap();
    std::fs::set_permissions(sandbox.state(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let [one, two] = ["absent-one", "absent-two"].map(|name| sandbox.path(name));
    let protect = format!("[[protect]]\npaths = [{one:?}, {two:?}]\n");
    sandbox.configure(&(sandbox.daemon_table("") + &protect));
    let output = sandbox.steadfast(&["run"]);
    common::assert_code(&output, 2, "run");
    let message = text(&output.stderr);
    for told in ["absent-one", "absent-two", "others may write to it", "is not a socket"] {
        assert_eq!(message.matches(told).count(), 1, "{told:?}: {message}");
    }
    assert_eq!(std::fs::read_dir(sandbox.state()).unwrap().count(), 0, "nothing was made");
    assert_eq!(std::fs::read(sandbox.control()).unwrap(), b"", "nothing was removed");
}

#[test]
fn a_damaged_baseline_is_told_with_everything_else_that_is_wrong() {
    skip_unless!(not_root());
    let sandbox = sandbox();
    let file = sandbox.path("main.py");
    common::write_old(&file, GOOD);
    sandbox.expect(0, "protect", &file);
    let state = sandbox.state();
    let baseline = state.join("baseline.db");
    std::fs::write(&baseline, vec![b'?'; 8192]).unwrap();
    // Something else has the place of a directory, and one path is what nobody can protect.
    std::fs::rename(state.join("quarantine"), state.join("away")).unwrap();
    std::fs::write(state.join("quarantine"), "").unwrap();
    let pipe = sandbox.path("pipe");
    rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    std::fs::write(sandbox.control(), "").unwrap();
    let protect = format!("[[protect]]\npaths = [{file:?}, {pipe:?}]\n");
    sandbox.configure(&(sandbox.daemon_table("") + &protect));
    let output = sandbox.steadfast(&["run"]);
    common::assert_code(&output, 2, "run");
    let message = text(&output.stderr);
    for told in ["is damaged", "state/quarantine", "named pipe", "is not a socket"] {
        assert_eq!(message.matches(told).count(), 1, "{told:?}: {message}");
    }
    assert_eq!(std::fs::read(&baseline).unwrap(), vec![b'?'; 8192]);
    assert_eq!(is_immutable(&file), Some(true));
}

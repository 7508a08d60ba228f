//! What belongs together is one message, and so is what the watchdog cannot do itself. Needs root
//! and python3-aiosmtpd.

#![allow(clippy::unwrap_used, dead_code)]

mod common;
#[path = "mail/mod.rs"]
mod room;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{Guard, Place, Sandbox, Whole, not_root, poll, skip_unless};
use jiff::{SignedDuration, Timestamp};
use room::{Behaviour, Room, Server};
use steadfast::alert::{Gatherer, Item};
use steadfast::engine::Moment;
use steadfast::record::{Event, Kind, Severity};

#[test]
fn an_hour_of_incidents_that_can_wait_is_one_mail() {
    let server = Behaviour::plain().start();
    let mut room = Room::new(format!("smtp://localhost:{}", server.port)).with("tls = \"none\"");
    let mut gatherer = Gatherer::default();
    // The hour that ends now.
    let began = Timestamp::now() - SignedDuration::from_hours(1);
    for n in 0..12_u32 {
        let after = Duration::from_secs(u64::from(n) * 60);
        let now = Moment { mono: after, wall: began + after };
        let mut event = Event::new(now.wall, Kind::Deleted, Severity::Warning);
        event = event.about(Path::new(&format!("/srv/f{n}.py")));
        event.incident = Some(format!("i-{n}"));
        let item = Item { incident: format!("i-{n}"), not_before: now.wall, events: vec![event] };
        gatherer.take(now, item, true);
        for item in gatherer.turnout(now, false).items {
            room.spool.put(&item).unwrap();
        }
    }
    assert_eq!(room.spool.waiting(), 1);
    let _deliver = room.deliver(None);
    let mail = server.mail();
    assert!(mail.subject().contains("12 incidents"), "{}", mail.subject());
    for n in 0..12 {
        assert!(mail.body().contains(&format!("/srv/f{n}.py deleted")), "{}", mail.body());
    }
    room.news();
    server.assert_idle();
    assert_eq!(room.spool.waiting(), 0);
}

/// Guards these, and has mail delivered there.
fn guard_with_mail(sandbox: Sandbox, paths: &[PathBuf], server: &Server) -> Guard {
    for path in paths {
        common::write_old(path, b"good\n");
    }
    let names: Vec<_> = paths.iter().map(|path| format!("{path:?}")).collect();
    sandbox.configure(&format!(
        "{}[[protect]]\npaths = [{}]\n[alert.email]\nfrom = \"guard@example.com\"\n\
         to = [\"ops@example.com\"]\nserver = \"smtp://localhost:{}\"\ntls = \"none\"\n",
        sandbox.daemon_table(""),
        names.join(", "),
        server.port
    ));
    let mut guard = Guard::of(sandbox);
    guard.start();
    guard.wait_settled();
    guard
}

#[test]
fn of_what_is_not_guarded_any_more_a_person_is_told_once_also_over_a_restart() {
    skip_unless!(not_root());
    let place = match Place::new("ext4") {
        Ok(place) => place,
        Err(why) => return common::report_skip(&format!("no ext4 here: {why}")),
    };
    let server = Behaviour::plain().start();
    let sandbox = Sandbox::on(place);
    let file = sandbox.path("main.py");
    let mut guard = guard_with_mail(sandbox, std::slice::from_ref(&file), &server);
    guard.regard_as_good(&file, Whole::of(&file).unwrap());
    let at = guard.place.mount_point().to_str().unwrap().to_owned();
    poll(|| guard.place.unmount().ok(), || guard.story());
    let mail = server.mail();
    assert!(mail.subject().contains("a sensor does less than it should"), "{}", mail.subject());
    let why = format!("the filesystem at {at} is not mounted");
    assert!(mail.body().replace('\n', " ").contains(&why), "{}", mail.body());

    guard.stop();
    guard.start();
    assert_eq!(guard.status()["state"], "degraded");
    // Longer than it takes until what lasts is told.
    std::thread::sleep(Duration::from_secs(13));
    guard.place_mut().mount().unwrap();
    guard.wait_whole_at(&file);
    guard.tamper_surely(|| {
        common::chattr("-i", &file);
        std::fs::remove_file(&file).is_ok()
    });
    let mail = server.mail();
    assert!(mail.subject().contains("main.py deleted"), "{}", mail.subject());
    guard.stop();
    server.assert_idle();
}

#[test]
fn one_command_that_changes_many_files_is_one_event_and_one_mail() {
    skip_unless!(not_root());
    const FILES: usize = 25;
    let server = Behaviour::plain().start();
    let sandbox = Sandbox::on(Place::disk());
    let paths: Vec<_> = (0..FILES).map(|n| sandbox.path(format!("f{n}.py"))).collect();
    let mut guard = guard_with_mail(sandbox, &paths, &server);
    let script = "import os, fcntl, struct, sys, glob
for path in glob.glob(sys.argv[1] + '/*.py'):
    with open(path) as file:
        fcntl.ioctl(file, 0x40086602, struct.pack('l', 0))
    try: os.unlink(path)
    except OSError: pass
";
    let args = ["-c".as_ref(), script.as_ref(), guard.dir().as_os_str()];
    assert!(common::quiet("python3", &args).status.success());

    let masses = |guard: &Guard| {
        let lines = guard.events().into_iter().filter(|line| line["kind"] == "mass-change");
        lines.collect::<Vec<_>>()
    };
    poll(|| (!masses(&guard).is_empty()).then_some(()), || guard.story());
    let told = masses(&guard);
    assert_eq!(told.len(), 1, "{}", guard.story());
    assert_eq!(told[0]["after"]["files"], FILES, "{}", guard.story());
    assert_eq!(told[0]["path"].as_str(), guard.dir().to_str());
    assert_eq!(told[0]["severity"], "critical");
    if let Some(comm) = told[0]["actor"]["comm"].as_str() {
        assert_eq!(comm, "python3");
    }
    let mail = server.mail();
    assert!(mail.subject().contains("25 protected files changed below"), "{}", mail.subject());
    for n in 0..FILES {
        assert!(mail.body().contains(&format!("/f{n}.py ")), "{}", mail.body());
    }
    for path in &paths {
        assert_eq!(std::fs::read(path).unwrap(), b"good\n");
    }
    let who = guard.json(0, &["who".as_ref(), "--json".as_ref(), guard.dir().as_os_str()]);
    assert_eq!(who["incidents"], FILES, "a mass is no incident of its own");
    guard.stop();
    server.assert_idle();
}

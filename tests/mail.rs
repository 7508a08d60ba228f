//! Incidents reach people through a real mail server, whatever state that is in. Needs root,
//! python3-aiosmtpd and openssl.

#![allow(clippy::unwrap_used)]

#[path = "mail/mod.rs"]
mod room;

use std::ffi::OsStr;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use room::{Authority, Behaviour, Room, Server, eventually};
use serde_json::json;
use steadfast::alert::News;

const FILE: &str = "/srv/app/main.py";

fn plain_room(server: &Server) -> Room {
    Room::new(format!("smtp://localhost:{}", server.port)).with("tls = \"none\"")
}

#[test]
fn an_incident_is_mailed_once_to_everybody_and_leaves_the_spool() {
    let server = Behaviour::plain().start();
    let mut room = plain_room(&server);
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(None);
    let mail = server.mail();
    assert_eq!(mail.receivers(), ["a@example.com", "b@example.com"]);
    assert_eq!(mail.header("From"), "Guard <guard@example.com>");
    assert_eq!(mail.header("MIME-Version"), "1.0");
    assert_eq!(mail.header("Auto-Submitted"), "auto-generated");
    assert!(mail.header("Message-ID").starts_with("<one."));
    assert!(mail.subject().contains("/srv/app/main.py changed"), "{}", mail.subject());
    assert!(mail.body().contains("steadfast who /srv/app/main.py"), "{}", mail.body());
    room.assert_delivered("one");
    assert_eq!(room.spool.waiting(), 0);

    // What comes later is noticed too, and nothing was sent twice in between.
    room.put("two", &[Path::new(FILE)]);
    assert!(server.mail().header("Message-ID").starts_with("<two."));
    room.assert_delivered("two");
    server.assert_idle();
}

#[test]
fn an_incident_that_grows_after_its_message_makes_another_in_the_same_thread() {
    let server = Behaviour::plain().start();
    let mut room = plain_room(&server);
    room.put("one", &[Path::new("/a")]);
    let _deliver = room.deliver(None);
    let first = server.mail();
    // Without waiting for the receipt: the item grows whenever it grows.
    room.put("one", &[Path::new("/a"), Path::new("/b")]);
    let second = server.mail();
    assert_ne!(first.header("Message-ID"), second.header("Message-ID"));
    assert_eq!(first.header("References"), second.header("References"));
    assert!(second.body().contains("/b"));
    room.assert_delivered("one");
    server.assert_idle();
}

#[test]
fn starttls_and_smtps_deliver_with_a_login_and_encrypted() {
    let authority = Authority::new();
    for (how, scheme) in [("starttls", "smtp"), ("smtps", "smtps")] {
        let server = Behaviour::plain()
            .encrypted(how, &authority)
            .with("login", json!(["mailer", "päss word"]))
            .start();
        let mut room = Room::new(format!("{scheme}://mailer@localhost:{}", server.port))
            .with_password("päss word");
        room.put("one", &[Path::new(FILE)]);
        let _deliver = room.deliver(Some(&authority.path("ca.pem")));
        let mail = server.mail();
        assert!(mail.is_encrypted() && mail.is_logged_in(), "{how}");
        room.assert_delivered("one");
    }
}

#[test]
fn a_wrong_password_is_reported_and_the_message_waits() {
    let authority = Authority::new();
    let server = Behaviour::plain()
        .encrypted("starttls", &authority)
        .with("login", json!(["mailer", "right"]))
        .start();
    let mut room =
        Room::new(format!("smtp://mailer@localhost:{}", server.port)).with_password("wrong");
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(Some(&authority.path("ca.pem")));
    assert_eq!(server.refusal(), "login");
    let (error, _) = room.failure();
    assert!(error.contains("535") && error.contains("password"), "{error}");
    assert_eq!(room.spool.waiting(), 1);
}

#[test]
fn nothing_is_sent_to_a_server_whose_certificate_is_not_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    for (how, scheme) in [("starttls", "smtp"), ("smtps", "smtps")] {
        let server = Behaviour::plain().encrypted(how, &authority).start();
        let mut room = Room::new(format!("{scheme}://localhost:{}", server.port));
        room.put("one", &[Path::new(FILE)]);
        let _deliver = room.deliver(Some(&other.path("ca.pem")));
        let (error, _) = room.failure();
        assert!(error.contains("nothing was sent"), "{error}");
        server.assert_idle();
        assert_eq!(room.spool.waiting(), 1);
    }
}

#[test]
fn a_certificate_for_another_name_is_not_trusted() {
    let authority = Authority::new();
    let server = Behaviour::plain().encrypted("smtps", &authority).start();
    let mut room = Room::new(format!("smtps://127.0.0.1:{}", server.port));
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(Some(&authority.path("ca.pem")));
    let (error, _) = room.failure();
    assert!(error.contains("nothing was sent"), "{error}");
    server.assert_idle();
}

#[test]
fn a_server_that_comes_back_gets_each_message_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut room = Room::new(format!("smtp://127.0.0.1:{port}")).with("tls = \"none\"");
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(None);
    let (error, attempts) = room.failure();
    assert!(error.contains("refused") && attempts == 1, "{error}");
    room.put("two", &[Path::new(FILE)]);
    let server = Behaviour::plain().with("port", json!(port)).start();
    let mut ids = [server.mail(), server.mail()].map(|mail| mail.header("Message-ID"));
    ids.sort();
    assert!(ids[0].starts_with("<one.") && ids[1].starts_with("<two."), "{ids:?}");
    eventually("an empty spool", || {
        room.spool.collect().unwrap();
        (room.spool.waiting() == 0).then_some(())
    });
    room.put("three", &[Path::new(FILE)]);
    assert!(server.mail().header("Message-ID").starts_with("<three."));
    server.assert_idle();
}

#[test]
fn a_temporary_refusal_is_tried_again() {
    let server =
        Behaviour::plain().with("refuse_messages", json!(["451 later", "452 full"])).start();
    let mut room = plain_room(&server);
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(None);
    assert_eq!([server.refusal(), server.refusal()], ["451 later", "452 full"]);
    assert!(server.mail().header("Message-ID").starts_with("<one."));
    server.assert_idle();
}

#[test]
fn a_final_refusal_of_one_receiver_is_reported_and_the_other_is_told_once() {
    let server = Behaviour::plain().with("refuse_receivers", json!(["a@example.com"])).start();
    let mut room = plain_room(&server);
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(None);
    assert_eq!(server.refusal(), "a@example.com");
    assert_eq!(server.mail().receivers(), ["b@example.com"]);
    let (error, _) = room.failure();
    assert!(error.contains("a@example.com") && error.contains("no such user"), "{error}");
    // The second attempt is about the refused one alone.
    assert_eq!([server.refusal(), server.refusal()], ["a@example.com"; 2]);
    server.assert_idle();
    assert_eq!(room.spool.waiting(), 1);
}

#[test]
fn a_server_that_never_answers_holds_up_neither_the_end_nor_the_message() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut room = Room::new(format!("smtp://127.0.0.1:{port}")).with("tls = \"none\"");
    room.put("one", &[Path::new(FILE)]);
    let mut deliver = room.deliver(None);
    let _silent = listener.accept().unwrap();
    deliver.signal(Signal::SIGTERM);
    assert!(deliver.wait().success());
    assert_eq!(room.spool.waiting(), 1);

    let server = Behaviour::plain().start();
    room.server = format!("smtp://127.0.0.1:{}", server.port);
    let _deliver = room.deliver(None);
    assert!(server.mail().header("Message-ID").starts_with("<one."));
}

/// What answers sends `answer` to whoever connects, over and over, and hears nothing.
fn talks(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        // Both sides end with the test's process at the latest.
        for mut stream in listener.incoming().flatten() {
            while stream.write_all(answer).is_ok() {}
        }
    });
    port
}

#[test]
fn a_server_that_talks_rubbish_without_end_is_told_of_and_the_message_waits() {
    for rubbish in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x16\x03\x01\x00\xff\xfe\x00\n",
        b"220-a greeting that has no end\r\n",
    ] {
        let mut room = Room::new(format!("smtp://127.0.0.1:{}", talks(rubbish)));
        room = room.with("tls = \"none\"");
        room.put("one", &[Path::new(FILE)]);
        let mut deliver = room.deliver(None);
        let (error, _) = room.failure();
        let shown = String::from_utf8_lossy(rubbish);
        assert!(error.contains("does not speak SMTP"), "{shown:?}: {error}");
        assert!(error.chars().all(|c| !c.is_control()) && error.len() < 1000, "{error:?}");
        assert_eq!(room.spool.waiting(), 1);
        deliver.signal(Signal::SIGTERM);
        assert!(deliver.wait().success());
    }
}

#[test]
fn a_file_name_cannot_add_a_header_or_an_escape_sequence() {
    let server = Behaviour::plain().start();
    let mut room = plain_room(&server);
    let name = b"/srv/\r\nBcc: evil@example.com\r\n\r\n.\r\nMAIL FROM:<x>\r\n\x1b]0;x\x07\xff";
    room.put("one", &[Path::new(OsStr::from_bytes(name))]);
    let _deliver = room.deliver(None);
    let mail = server.mail();
    assert_eq!(mail.receivers(), ["a@example.com", "b@example.com"]);
    assert!(!mail.head().iter().any(|line| line.starts_with("Bcc")), "{:?}", mail.head());
    assert!(mail.subject().contains("\\r\\nBcc: evil"), "{}", mail.subject());
    assert!(!mail.body().contains(['\x1b', '\x07']));
    room.assert_delivered("one");
    server.assert_idle();
}

#[test]
fn rubbish_in_the_spool_does_not_keep_an_incident_back() {
    let server = Behaviour::plain().start();
    let mut room = plain_room(&server);
    let items = room.path("state/spool/items");
    nix::unistd::mkfifo(&items.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("/dev/zero", items.join("link.json")).unwrap();
    std::fs::File::create(items.join("huge.json")).unwrap().set_len(1 << 40).unwrap();
    std::fs::write(items.join("cut.json"), b"{\"revision\":\"ab").unwrap();
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(None);
    assert!(server.mail().header("Message-ID").starts_with("<one."));
    let news = room.spool.collect().unwrap();
    assert_eq!(news.iter().filter(|news| matches!(news, News::Rejected { .. })).count(), 4);
}

#[test]
fn the_process_that_talks_to_the_network_has_no_privileges_left() {
    let server = Behaviour::plain().start();
    let mut room = plain_room(&server);
    room.put("one", &[Path::new(FILE)]);
    let deliver = room.deliver(None);
    server.mail();
    let status = deliver.status();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    assert_eq!(field("Uid:"), vec![nobody.uid.to_string(); 4]);
    assert_eq!(field("Gid:"), vec![nobody.gid.to_string(); 4]);
    assert_eq!(field("Groups:"), Vec::<String>::new());
    assert_eq!(field("CapEff:"), ["0000000000000000"]);
    assert_eq!(field("CapPrm:"), ["0000000000000000"]);
    assert_eq!(field("NoNewPrivs:"), ["1"]);
}

#[test]
fn it_ends_with_the_daemon_that_started_it() {
    let server = Behaviour::plain().start();
    let mut room = plain_room(&server);
    room.put("one", &[Path::new(FILE)]);
    let mut deliver = room.deliver(None);
    server.mail();
    deliver.cut_lifeline();
    assert!(deliver.wait().success());
}

#[test]
fn one_that_is_killed_leaves_its_work_to_the_next() {
    let server = Behaviour::plain().start();
    let mut room = plain_room(&server);
    room.put("one", &[Path::new(FILE)]);
    let mut deliver = room.deliver(None);
    server.mail();
    room.assert_delivered("one");
    deliver.signal(Signal::SIGKILL);
    deliver.wait();
    room.put("two", &[Path::new(FILE)]);
    let _next = room.deliver(None);
    assert!(server.mail().header("Message-ID").starts_with("<two."));
    room.assert_delivered("two");
    server.assert_idle();
}

#[test]
fn a_password_that_others_can_read_is_refused_before_anything_is_sent() {
    use std::os::unix::fs::PermissionsExt;
    let mut room = Room::new("smtps://mailer@localhost:1").with_password("secret");
    std::fs::set_permissions(room.path("password"), PermissionsExt::from_mode(0o644)).unwrap();
    room.put("one", &[Path::new(FILE)]);
    assert_eq!(room.deliver(None).wait().code(), Some(2));
}

#[test]
fn the_hosts_own_mail_system_is_used_through_sendmail() {
    use std::os::unix::fs::PermissionsExt;
    // For the user nobody, as which the program runs.
    let open = tempfile::tempdir().unwrap();
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let (program, taken) = (open.path().join("sendmail"), open.path().join("taken"));
    let script = r#"printf '#!/bin/sh\n{ echo "$@"; cat; } > %s.new && mv %s.new %s\n' "$1" "$1" "$1" > "$0"
                    chmod 755 "$0""#;
    let mut made = Command::new("sh");
    made.args(["-c", script]).arg(&program).arg(&taken);
    assert!(made.status().unwrap().success());
    let mut room = Room::new(format!("sendmail:{}", program.display()));
    room.put("one", &[Path::new(FILE)]);
    let _deliver = room.deliver(None);
    let mail = eventually("a call of sendmail", || std::fs::read_to_string(&taken).ok());
    assert!(mail.starts_with("-i -f guard@example.com -- a@example.com b@example.com\n"), "{mail}");
    assert!(mail.contains("Message-ID: <one."), "{mail}");
    room.assert_delivered("one");
}

#[test]
fn what_happens_to_a_protected_file_is_mailed_by_the_daemons_own_second_process() {
    let server = Behaviour::plain().start();
    let room = tempfile::tempdir_in("/var/tmp").unwrap();
    let at = |name: &str| room.path().join(name);
    std::fs::write(at("main.py"), "good").unwrap();
    let config = format!(
        "[[protect]]\npaths = [{:?}]\n\
         [alert.email]\nfrom = \"guard@example.com\"\nto = [\"ops@example.com\"]\n\
         server = \"smtp://localhost:{}\"\ntls = \"none\"\n\
         [daemon]\nstate = {:?}\ncontrol = {:?}\n",
        at("main.py"),
        server.port,
        at("state"),
        at("control.sock"),
    );
    std::fs::write(at("steadfast.toml"), config).unwrap();
    let steadfast = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steadfast"));
        command.args(words).env("STEADFAST_CONFIG", at("steadfast.toml"));
        command
    };
    let mut daemon = steadfast(&["run"]).stdout(Stdio::null()).spawn().unwrap();
    eventually("the daemon", || {
        let asked = steadfast(&["status", "--json"]).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&asked.stdout).ok()?;
        // It answers before it is on guard.
        (status["state"] != "starting").then_some(())
    });
    let chattr = |flag: &str| {
        Command::new("chattr").args(["-R", flag]).arg(room.path()).stderr(Stdio::null()).status()
    };
    Command::new("chattr").arg("-i").arg(at("main.py")).status().unwrap();

    let mail = server.mail();
    assert_eq!(mail.receivers(), ["ops@example.com"]);
    assert!(mail.subject().contains("main.py"), "{}", mail.subject());
    assert!(mail.body().contains("chattr"), "{}", mail.body());

    let pid = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(daemon.wait().unwrap().success());
    server.assert_idle();
    for flag in ["-a", "-i"] {
        chattr(flag).unwrap();
    }
}

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use super::*;
use crate::alert::{Item, News, Spool};
use crate::config::Tls;
use crate::record::{Event, Kind, Severity};

fn item(incident: &str) -> Item {
    let event = Event::new(Timestamp::now(), Kind::ContentChanged, Severity::Warning);
    let events = vec![event.about(Path::new("/srv/app"))];
    Item { incident: incident.into(), not_before: Timestamp::now(), events }
}

fn courier(state: &Path, port: u16, patience: Patience) -> Courier {
    let email = Email {
        from: "a@example.com".into(),
        to: vec!["b@example.com".into()],
        server: MailServer::Smtp { user: None, host: "127.0.0.1".into(), port, tls: Tls::None },
        password_file: None,
    };
    let mailer = Mailer::new(&email, None, patience).unwrap();
    let mut pickup = Pickup::open(state).unwrap();
    pickup.refresh().unwrap();
    let waiting = Waiting::new(&pickup.items_path()).unwrap();
    let place = Place { host: "web 1\r\n".into(), zone: TimeZone::UTC };
    Courier::new(pickup, mailer, place, waiting, state.to_owned())
}

#[test]
fn a_server_that_sends_a_byte_now_and_then_cannot_hold_the_process() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        while client.write_all(b"2").is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let patience = Patience { step: Duration::from_secs(60), message: Duration::from_millis(400) };
    let stuck = courier(state.path(), port, patience).pass();
    assert!(matches!(stuck, Err(DeliverError::Stuck(_))));
    let news = spool.collect().unwrap();
    assert!(matches!(news.as_slice(), [News::Failed { attempts: 1, .. }]), "{news:?}");
}

#[test]
fn a_server_in_trouble_is_not_asked_again_for_every_item() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    for incident in ["one", "two", "three"] {
        spool.put(&item(incident)).unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut courier = courier(state.path(), port, Patience::default());
    assert!(courier.pass().unwrap() == Then::GoOn);
    assert_eq!(spool.collect().unwrap().len(), 1);
    assert!(courier.idle() > Duration::ZERO);
}

#[test]
fn the_message_id_is_the_same_for_every_attempt_and_fit_for_a_header() {
    let state = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(state.path()).unwrap();
    spool.put(&item("one")).unwrap();
    let mut courier = courier(state.path(), 1, Patience::default());
    let due = courier.pickup.next_due(Timestamp::now()).unwrap();
    let identity = courier.identity(&due);
    assert_eq!(identity.id, format!("one.{}@web1", due.revision));
    assert_eq!(identity.thread, "one@web1");
}

#[test]
fn without_a_mail_configuration_the_process_says_so() {
    let config =
        Config { protect: Vec::new(), email: None, daemon: crate::config::Daemon::default() };
    let error = run(&config).unwrap_err();
    assert!(error.to_string().contains("[alert.email]"));
}

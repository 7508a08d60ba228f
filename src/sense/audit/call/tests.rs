//! Records in every order.

use proptest::prelude::*;

use super::*;

fn records(serial: u64) -> Vec<(u16, String)> {
    let stamp = format!("audit(1795251497.217:{serial}): ");
    [
        (
            SYSCALL,
            "arch=c000003e syscall=264 success=yes exit=0 a0=ffffff9c a1=1 a2=2 a3=3 items=2 \
            ppid=7 pid=8193 auid=4294967295 uid=0 euid=33 tty=pts3 ses=4 comm=\"mv\" \
            exe=\"/usr/bin/mv\" key=\"k\"",
        ),
        (CWD, "cwd=\"/tmp\""),
        (PATH, "item=0 name=\"/srv/\" inode=5 dev=fe:00 nametype=PARENT cap_fp=0"),
        (PATH, "item=1 name=\"/srv/x\" inode=6 dev=fe:00 nametype=DELETE cap_fp=0"),
        (PROCTITLE, "proctitle=6D7600612062"),
        (EOE, ""),
    ]
    .map(|(kind, body)| (kind, format!("{stamp}{body}")))
    .to_vec()
}

fn feed(assembler: &mut Assembler, records: &[(u16, String)]) -> Vec<Call> {
    let now = Instant::now();
    let heard =
        records.iter().filter_map(|(kind, text)| assembler.take(*kind, text.as_bytes(), now));
    heard
        .filter_map(|heard| match heard {
            Heard::Call(call) => Some(*call),
            Heard::Configuration(_) => None,
        })
        .collect()
}

#[test]
fn what_may_keep_records_back_is_told_from_what_does_not() {
    let told = |body: &str| {
        let text = format!("audit(1795251497.217:9): {body}");
        Assembler::default().take(CONFIG_CHANGE, text.as_bytes(), Instant::now())
    };
    for (body, change) in [
        ("op=set audit_enabled=0 old=1 auid=0 ses=3 res=1", Change::Off),
        ("op=set audit_enabled=0 old=2 auid=0 ses=3 res=0", Change::Other),
        ("op=set audit_enabled=1 old=0 auid=0 ses=3 res=1", Change::Other),
        ("op=set audit_backlog_limit=8192 old=64 auid=0 ses=3 res=1", Change::Other),
        ("auid=0 ses=3 op=add_rule key=(null) list=1 res=1", Change::Processes),
        ("auid=0 ses=3 op=remove_rule key=(null) list=1 res=1", Change::Processes),
        ("auid=0 ses=3 op=add_rule key=\"watch\" list=4 res=1", Change::Rules),
        ("auid=0 ses=3 op=add_rule key=(null) list=5 res=1", Change::Rules),
        ("auid=0 ses=3 op=add_rule key=\"steadfast-7-8-0-64\" list=4 res=1", Change::Other),
        ("", Change::Other),
    ] {
        assert_eq!(told(body), Some(Heard::Configuration(change)), "{body}");
    }
}

#[test]
fn a_call_is_put_together() {
    let calls = feed(&mut Assembler::default(), &records(11));
    let [call] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!((call.serial, call.pid, call.ppid, call.uid), (11, 8193, 7, 33));
    assert_eq!((call.number, call.session, call.login_uid), (264, Some(4), None));
    assert_eq!(call.title, b"mv\0a b");
    assert_eq!(call.cwd.as_deref(), Some(&b"/tmp"[..]));
    assert_eq!(call.names[1].inode, Some(((0xfe, 0), 6)));
    assert_eq!((call.names[0].role, call.names[1].role), (Role::Parent, Role::Delete));
}

#[test]
fn a_number_that_never_comes_is_a_record_that_was_lost() {
    let mut assembler = Assembler::default();
    let start = Instant::now();
    for serial in [1, 2, 4] {
        for (kind, text) in records(serial) {
            let _ = assembler.take(kind, text.as_bytes(), start);
        }
    }
    assert!(!assembler.lost(start), "it may be on its way");
    assert!(assembler.is_whole_to(3) && !assembler.is_whole_to(4));
    assert!(assembler.lost(start + MISSED));
    assert!(!assembler.lost(start + MISSED), "said once");
    assert!(assembler.is_whole_to(4));
}

#[test]
fn a_late_number_is_not_lost() {
    let mut assembler = Assembler::default();
    let start = Instant::now();
    for serial in [5, 9, 8, 7, 6] {
        for (kind, text) in records(serial) {
            let _ = assembler.take(kind, text.as_bytes(), start);
        }
    }
    assert!(assembler.is_whole_to(9));
    assert!(!assembler.lost(start + MISSED));
}

#[test]
fn a_number_that_was_used_before_anybody_listened_is_not_lost() {
    let mut assembler = Assembler::default();
    let start = Instant::now();
    for serial in [5, 7, 9] {
        for (kind, text) in records(serial) {
            let _ = assembler.take(kind, text.as_bytes(), start);
        }
    }
    assembler.begins_at(7);
    assert!(assembler.is_whole_to(8) && !assembler.is_whole_to(9));
    assembler.begins_at(9);
    assert!(assembler.is_whole_to(9));
    assert!(!assembler.lost(start + MISSED));
}

#[test]
fn calls_without_an_end_are_given_up_and_memory_stays_bounded() {
    let mut assembler = Assembler::default();
    let now = Instant::now();
    for serial in 0..20_000 {
        let (kind, text) = records(serial).remove(0);
        let _ = assembler.take(kind, text.as_bytes(), now);
        for _ in 0..3 * u64::from(serial == 19_999) * MOST_PATHS as u64 {
            let (kind, text) = records(serial).remove(2);
            let _ = assembler.take(kind, text.as_bytes(), now);
        }
    }
    assert!(assembler.pending.len() <= MOST_PENDING);
    assert!(assembler.pending.values().all(|(_, call)| call.names.len() <= MOST_PATHS));
    assert!(assembler.lost(now));
    assert!(assembler.lost(now + 2 * GIVEN_UP));
    assert!(assembler.pending.is_empty());
}

proptest! {
    #[test]
    fn interleaved_calls_come_out_whole(order in proptest::collection::vec(0_usize..3, 40)) {
        let mut queues = [records(1), records(2), records(3)].map(std::collections::VecDeque::from);
        let mut mixed = Vec::new();
        for turn in order {
            mixed.extend(queues[turn].pop_front());
        }
        queues.into_iter().for_each(|rest| mixed.extend(rest));
        let mut calls = feed(&mut Assembler::default(), &mixed);
        calls.sort_by_key(|call| call.serial);
        let alone: Vec<_> =
            (1..=3).flat_map(|n| feed(&mut Assembler::default(), &records(n))).collect();
        prop_assert_eq!(calls, alone);
    }

    #[test]
    fn rubbish_in_any_record_never_panics(
        kind in 1299_u16..1330,
        serial in any::<u64>(),
        body in "[a-z0-9=\" ():]{0,120}",
    ) {
        let mut assembler = Assembler::default();
        let now = Instant::now();
        for (known, text) in records(serial) {
            let _ = assembler.take(known, text.as_bytes(), now);
            let text = format!("audit(1.001:{serial}): {body}");
            let _ = assembler.take(kind, text.as_bytes(), now);
            let _ = assembler.take(kind, body.as_bytes(), now);
        }
        let _ = assembler.lost(now);
    }
}

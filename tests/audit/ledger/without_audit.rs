//! Without audit whoever opens the file is named, and what cannot be known is said to be unknown.

use std::collections::BTreeSet;

use super::{
    Case, Entry, Tamperer, Told, assert_whole, changes, count, describe, guard_many, tamper_by,
    tamper_with_all,
};
use crate::common::{Guard, missing, not_root, skip_unless};
use crate::recycled::{
    MORE_THAN_PIDS, give_away, is_inside, no_pid_max_of_its_own, run_with_few_pids,
};

#[test]
fn nobody_is_named_exactly_who_did_not_do_it() {
    skip_unless!(not_root().or_else(|| missing(&["setpriv"])));
    let _alone = crate::alone();
    let count = count(150);
    let guard = Guard::on_disk().without("audit_control").without("audit_read");
    let guard = guard_many(count, guard);
    let ledger = tamper_with_all(&guard, count);
    assert_openers_named(&guard, &ledger);
}

#[test]
fn nobody_is_taken_for_another_who_had_the_pid() {
    skip_unless!(not_root().or_else(no_pid_max_of_its_own).or_else(|| missing(&["unshare"])));
    let _alone = crate::alone();
    run_with_few_pids("ledger::without_audit::inside");
}

/// Not a test of its own: what the other runs in a pid namespace with few pids. Audit is to be
/// had only in the first one.
#[test]
#[ignore = "a part of another test"]
fn inside() {
    if !is_inside() {
        return;
    }
    give_away(300);
    let count = count(MORE_THAN_PIDS);
    let guard = guard_many(count, Guard::on_disk());
    let ledger = tamper_by(&guard, count, |case| {
        // Others have the next pids, so that those of tamperers soon come round.
        give_away(10);
        Tamperer::new(case)
    });
    let pids: BTreeSet<u32> = ledger.iter().map(|entry| entry.pid).collect();
    assert!(pids.len() < ledger.len(), "no two tamperers had the same pid");
    assert_openers_named(&guard, &ledger);
}

/// Nobody else is named, whoever opened the file is, and where nobody is, that is said.
fn assert_openers_named(guard: &Guard, ledger: &[Entry]) {
    let wrong = Told::of(guard, ledger).wrong;
    assert!(wrong.is_empty(), "exactly, and wrong:\n{}", wrong.join("\n"));
    let told = changes(guard);
    let mut wrong = Vec::new();
    for entry in ledger {
        let lines = &told[&entry.case.file];
        for line in lines {
            let unknown = line["attribution"]["confidence"] == "unknown";
            let named = line["actor"].is_object();
            if named == unknown || (named && !entry.is_named_by(line)) {
                wrong.push(describe(entry, line));
            }
        }
        // Whoever opens the file, to clear the bit or to write, is seen opening it.
        let Case { clearing, act, .. } = entry.case;
        let opened = clearing != "file_setattr" || matches!(act, "write" | "map");
        if opened && !lines.iter().any(|line| entry.is_named_by(line)) {
            wrong.extend(lines.iter().map(|line| describe(entry, line)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), ledger.len(), wrong.join("\n"));
    assert_whole(guard, ledger);
}

//! A protected file that is opened thousands of times a second.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Guard, not_root, poll, skip_unless};
use crate::no_audit;

#[test]
fn who_only_opens_a_file_that_is_opened_all_the_time_is_left_alone_and_the_file_still_healed() {
    skip_unless!(not_root().or_else(no_audit));
    let _alone = crate::alone();
    let guard = Guard::on_disk().file("f", b"good\n").start();
    let file = guard.file();
    assert!(asks_openers(guard.pid(), &file));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                drop(File::open(&file).unwrap());
            }
        });
        let _stop = Stop(&stop);
        poll(
            || {
                let found = guard.status()["shortcomings"].to_string();
                found.contains("opened thousands of times a second").then_some(())
            },
            || format!("it is never said\n{}", guard.story()),
        );
        assert!(!asks_openers(guard.pid(), &file));
        guard.sh("chattr -i \"$FILE\"");
        guard.wait_whole();
        guard.write_at_once(&file, |file| std::io::Write::write_all(file, b"TAMPERED"));
        guard.wait_whole();
    });
    guard.wait_settled();
}

/// Ends the readers however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a permission mark of this process is on the file: as the kernel tells it.
fn asks_openers(pid: u32, file: &Path) -> bool {
    let inode = format!("ino:{:x} ", std::fs::metadata(file).unwrap().ino());
    let fds = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let marks = fds.filter_map(|fd| std::fs::read_to_string(fd.unwrap().path()).ok());
    let lines: Vec<String> = marks.flat_map(|text| lines_of(&text)).collect();
    lines.iter().any(|line| line.contains(&inode) && line.contains(" mask:10000 "))
}

fn lines_of(text: &str) -> Vec<String> {
    text.lines().filter(|line| line.starts_with("fanotify ")).map(str::to_owned).collect()
}

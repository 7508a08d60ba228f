//! What is no regular file, or an absurd one, at the protected path.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};

use super::{REPLACE, WRITE};
use crate::common::{
    self, GOOD, MARKER, Route, Whole, chattr, exchange_surely, not_root, skip_unless,
};

/// The route on which `prepared` appears at the protected path, in one step.
fn swapped_for(prepare: impl Fn(&Path) + Clone + 'static) -> Route {
    Route::surely(|guard| exchange_surely(guard, &guard.file(), &guard.path("strange")))
        .with(move |builder| {
            let prepare = prepare.clone();
            builder.file("main.py", GOOD).prepare(move |dir| prepare(&dir.join("strange")))
        })
        .kinds(REPLACE)
}

fn make_node(path: &Path, kind: FileType, device: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), device).unwrap();
}

#[test]
fn a_file_replaced_by_a_named_pipe_is_whole_again() {
    skip_unless!(not_root());
    swapped_for(|at| make_node(at, FileType::Fifo, 0)).check();
}

#[test]
fn a_file_replaced_by_a_directory_is_whole_again() {
    skip_unless!(not_root());
    swapped_for(|at| {
        std::fs::create_dir_all(at.join("deep/er")).unwrap();
        std::fs::write(at.join("deep/er/file"), MARKER).unwrap();
        chattr("+i", &at.join("deep"));
    })
    .check();
}

#[test]
fn a_file_replaced_by_a_socket_is_whole_again() {
    skip_unless!(not_root());
    swapped_for(|at| drop(UnixListener::bind(at).unwrap())).check();
}

#[test]
fn a_file_replaced_by_a_device_is_whole_again() {
    skip_unless!(not_root());
    // /dev/full: whoever reads it reads for ever, whoever writes it is refused.
    swapped_for(|at| make_node(at, FileType::CharacterDevice, rustix::fs::makedev(1, 7))).check();
}

#[test]
fn a_file_replaced_by_a_sparse_terabyte_is_whole_again() {
    skip_unless!(not_root());
    swapped_for(|at| File::create(at).unwrap().set_len(1 << 40).unwrap()).check();
}

#[test]
fn a_file_replaced_by_a_symlink_is_whole_again_and_its_target_untouched() {
    skip_unless!(not_root());
    let precious_in = |dir: &Path| dir.join("shadow");
    let route = swapped_for(move |at| {
        let precious = precious_in(at.parent().unwrap());
        common::write_old(&precious, b"root:secret");
        std::fs::set_permissions(&precious, PermissionsExt::from_mode(0o600)).unwrap();
        symlink(&precious, at).unwrap();
    });
    let untouched = Whole {
        content: b"root:secret".to_vec(),
        mode: 0o100_600,
        owner: (0, 0),
        mtime: (1_600_000_000, 123_456_789),
        xattrs: std::collections::BTreeMap::new(),
        nlink: 1,
        immutable: Some(false),
    };
    route
        .also(move |guard| assert_eq!(untouched.differences(&precious_in(guard.dir())), ""))
        .check();
}

#[test]
fn a_file_replaced_by_a_dangling_symlink_is_whole_again_and_nothing_is_made_at_its_end() {
    skip_unless!(not_root());
    swapped_for(|at| symlink(at.with_file_name("nowhere"), at).unwrap())
        .also(|guard| assert!(!guard.path("nowhere").exists()))
        .check();
}

#[test]
fn a_terabyte_added_to_the_file_itself_is_cut_off() {
    skip_unless!(not_root());
    Route::surely(|guard| guard.write_surely(&guard.file(), |file| file.set_len(1 << 40)))
        .kinds(WRITE)
        .check();
}

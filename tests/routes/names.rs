//! Names that a tamperer would choose.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::WRITE;
use crate::common::{GOOD, Guard, MARKER, incident_of, not_root, skip_unless};

#[test]
fn any_bytes_in_names_are_guarded_and_escaped_where_they_are_shown() {
    skip_unless!(not_root());
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let long = [b'x'; 255];
    let names: [&[u8]; 10] = [
        b"new\nline",
        b"\x1b[31mred\x07",
        b"\xff\xfe\x80",
        b" spaces ",
        b"-rf",
        &long,
        b"*?[a]{b,c}!",
        b"\"quotes'`$(id)`",
        "\u{202e}reversed\u{200b}".as_bytes(),
        b"back\\slash\\x41",
    ];
    let paths: Vec<_> = names
        .iter()
        .map(|name| Path::new(OsStr::from_bytes(name)).join(OsStr::from_bytes(name)))
        .collect();
    let builder = paths.iter().fold(Guard::on_disk(), |builder, path| builder.file(path, GOOD));
    let guard = builder.start();
    assert_eq!(guard.status()["protected"], names.len());
    for path in paths.iter().map(|path| guard.path(path)) {
        let seq = guard.last_seq();
        guard.write_surely(&path, |file| file.write_all_at(MARKER, 2));
        guard.wait_whole_at(&path);
        incident_of(&guard, &path, seq).assert_only(WRITE).assert_any(WRITE).assert_healed();
    }
    let shown = guard.steadfast(&["events"]).stdout;
    for text in [String::from_utf8(shown).expect("UTF-8"), guard.log()] {
        let hostile = |c: char| (c.is_control() && c != '\n') || "\u{202e}\u{200b}".contains(c);
        assert!(!text.contains(hostile), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("line")), "a name broke a line: {text}");
    }
}

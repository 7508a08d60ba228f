//! The bytes that a fanotify group gives its reader, taken apart.
//!
//! Pure and total: rubbish yields fewer records, never a panic. Descriptors are plain numbers
//! here and owned by nobody.

use super::{MaskFlags, ObjectKey};

/// Length of `struct fanotify_event_metadata`.
const METADATA: usize = 24;
/// `FANOTIFY_METADATA_VERSION`.
const VERSION: u8 = 3;
const TYPE_FID: u8 = 1;
const TYPE_DFID_NAME: u8 = 2;
const TYPE_DFID: u8 = 3;
const TYPE_PIDFD: u8 = 4;

/// One event, with numbers instead of owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was done, several things perhaps.
    pub mask: MaskFlags,
    /// Descriptor of the file, in a group that opens files; negative where there is none.
    pub fd: i32,
    /// Process id, 0 where it is of no process that our pid namespace knows.
    pub pid: i32,
    /// Descriptor of the process; negative where it was gone, or could not be had.
    pub pidfd: i32,
    /// The inode it is about.
    pub object: Option<ObjectKey>,
    /// The directory, and the name in it: empty for the directory itself.
    pub dir: Option<(ObjectKey, Vec<u8>)>,
}

/// The events in `buffer`, as the kernel wrote it. Ends at the first one that makes no sense,
/// because nothing says where the next one would begin.
pub fn parse(buffer: &[u8]) -> impl Iterator<Item = Record> {
    let mut rest = buffer;
    std::iter::from_fn(move || {
        let (event, after) = split_event(rest)?;
        rest = after;
        record(event)
    })
}

fn split_event(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::try_from(u32_at(rest, 0)?).ok()?;
    if length < METADATA || *rest.get(4)? != VERSION {
        return None;
    }
    rest.split_at_checked(length)
}

fn record(event: &[u8]) -> Option<Record> {
    let mut record = Record {
        mask: MaskFlags::from_bits_retain(u64::from_ne_bytes(array_at(event, 8)?)),
        fd: i32_at(event, 16)?,
        pid: i32_at(event, 20)?,
        pidfd: -1,
        object: None,
        dir: None,
    };
    let metadata = usize::from(u16::from_ne_bytes(array_at(event, 6)?)).max(METADATA);
    let mut rest = event.get(metadata..).unwrap_or_default();
    while let Some((kind, body, after)) = split_info(rest) {
        note(&mut record, kind, body);
        rest = after;
    }
    Some(record)
}

/// An information record is a header of type, padding and length, and a body.
fn split_info(rest: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes(array_at(rest, 2)?));
    let (info, after) = rest.split_at_checked(length)?;
    Some((*info.first()?, info.get(4..)?, after))
}

fn note(record: &mut Record, kind: u8, body: &[u8]) {
    match kind {
        TYPE_FID => record.object = identifier(body).map(|(key, _)| key),
        TYPE_DFID_NAME => {
            record.dir = identifier(body).map(|(key, rest)| (key, name(rest)));
        }
        TYPE_DFID => record.dir = identifier(body).map(|(key, _)| (key, Vec::new())),
        // The first one only: a second would be a descriptor that nobody closes.
        TYPE_PIDFD if record.pidfd < 0 => record.pidfd = i32_at(body, 0).unwrap_or(-1),
        _ => {}
    }
}

/// Filesystem id, handle length, handle type, handle; and what follows.
fn identifier(body: &[u8]) -> Option<(ObjectKey, &[u8])> {
    let length = usize::try_from(u32_at(body, 8)?).ok()?;
    let (handle, rest) = body.get(16..)?.split_at_checked(length)?;
    let fsid = [i32_at(body, 0)?, i32_at(body, 4)?];
    Some((ObjectKey { fsid, kind: i32_at(body, 12)?, bytes: handle.into() }, rest))
}

/// A name ends at its NUL; the kernel writes `.` for the directory itself.
fn name(bytes: &[u8]) -> Vec<u8> {
    match bytes.split(|byte| *byte == 0).next() {
        None | Some(b".") => Vec::new(),
        Some(name) => name.to_vec(),
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    array_at(bytes, at).map(i32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(mask: u64, fd: i32, pid: i32, infos: &[Vec<u8>]) -> Vec<u8> {
        let length = METADATA + infos.iter().map(Vec::len).sum::<usize>();
        let mut out = (length as u32).to_ne_bytes().to_vec();
        out.extend([VERSION, 0]);
        out.extend((METADATA as u16).to_ne_bytes());
        out.extend(mask.to_ne_bytes());
        out.extend(fd.to_ne_bytes());
        out.extend(pid.to_ne_bytes());
        out.extend(infos.concat());
        out
    }

    fn info(kind: u8, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let mut out = vec![kind, 0];
        out.extend(((padded + 4) as u16).to_ne_bytes());
        out.extend(body);
        out.resize(padded + 4, 0);
        out
    }

    fn identified(handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut out = [1_i32, 2, handle.len() as i32, 7].map(i32::to_ne_bytes).concat();
        out.extend(handle);
        out.extend(name);
        out
    }

    fn key(handle: &[u8]) -> ObjectKey {
        ObjectKey { fsid: [1, 2], kind: 7, bytes: handle.into() }
    }

    #[test]
    fn all_records_of_an_event_are_read_in_any_order_and_strange_ones_are_passed_over() {
        let bytes = [
            event(
                MaskFlags::FAN_CREATE.bits(),
                -1,
                42,
                &[
                    info(99, b"what is this"),
                    info(TYPE_PIDFD, &9_i32.to_ne_bytes()),
                    info(TYPE_DFID_NAME, &identified(b"dir", b"na\xffme\0")),
                    info(TYPE_FID, &identified(b"file", b"")),
                ],
            ),
            event(0x1, -1, 0, &[info(TYPE_DFID_NAME, &identified(b"dir", b".\0"))]),
        ]
        .concat();
        let records: Vec<_> = parse(&bytes).collect();
        assert_eq!(records.len(), 2);
        assert_eq!((records[0].pid, records[0].pidfd, records[0].fd), (42, 9, -1));
        assert_eq!(records[0].mask, MaskFlags::FAN_CREATE);
        assert_eq!(records[0].object, Some(key(b"file")));
        assert_eq!(records[0].dir, Some((key(b"dir"), b"na\xffme".to_vec())));
        assert_eq!(records[1].dir, Some((key(b"dir"), Vec::new())));
        assert_eq!(records[1].pidfd, -1);
    }

    #[test]
    fn a_length_that_lies_ends_the_reading() {
        let good = event(1, -1, 1, &[]);
        for lie in [0_u32, 23, 10_000, u32::MAX] {
            let mut bad = event(2, -1, 1, &[]);
            bad[..4].copy_from_slice(&lie.to_ne_bytes());
            let bytes = [good.clone(), bad, good.clone()].concat();
            assert_eq!(parse(&bytes).count(), 1, "{lie}");
        }
        let mut other_version = good.clone();
        other_version[4] = 4;
        assert_eq!(parse(&other_version).count(), 0);
        let mut handle = identified(b"file", b"");
        handle[8..12].copy_from_slice(&u32::MAX.to_ne_bytes());
        let bytes = event(1, -1, 1, &[info(TYPE_FID, &handle), info(TYPE_PIDFD, &[0; 4])]);
        let record = parse(&bytes).next().unwrap();
        assert_eq!((record.object, record.pidfd), (None, 0));
    }

    proptest! {
        #[test]
        fn rubbish_never_panics_and_always_ends(
            bytes in proptest::collection::vec(any::<u8>(), 0..512)
        ) {
            prop_assert!(parse(&bytes).count() <= bytes.len() / METADATA);
        }

        #[test]
        fn a_damaged_event_never_panics(at in 0_usize..200, byte: u8) {
            let mut bytes = event(8, 3, 1, &[
                info(TYPE_DFID_NAME, &identified(b"directory", b"name\0")),
                info(TYPE_FID, &identified(b"file", b"")),
                info(TYPE_PIDFD, &5_i32.to_ne_bytes()),
            ]);
            let at = at % bytes.len();
            bytes[at] = byte;
            prop_assert!(parse(&bytes).count() <= bytes.len() / METADATA);
        }
    }
}

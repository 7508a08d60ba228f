//! Copying content from file to file, hashing it on the way. Holes stay holes: a file of a
//! terabyte that holds a few bytes takes a few bytes again. They are hashed as the zeros that
//! they stand for, without being read.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom as Find};
use rustix::io::Errno;

use super::hash::Hasher;
use crate::judge::Digest;
use crate::text::{escape_path, size};

/// How much is read and written at a time, bytes.
const CHUNK: usize = 256 * 1024;

/// Told of each stretch that is written over, at which byte it begins and how long it is, just
/// before that happens.
pub type Before<'a> = &'a mut dyn FnMut(u64, u64);

/// Which side of a copy failed.
pub(super) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// A disk that has no room for a copy.
#[derive(Debug, thiserror::Error)]
#[error(
    "no room for the known-good copy in {}: it takes {}, and {} are free; make {} of room there",
    escape_path(.dir), size(*.need), size(*.free), size(.need.saturating_sub(*.free))
)]
pub struct NoRoom {
    /// Where the copy was to lie.
    pub dir: PathBuf,
    /// What it takes, in bytes.
    pub need: u64,
    /// What is free, in bytes.
    pub free: u64,
}

/// Checks that the disk of `file`, which is known as `dir`, has `need` bytes free.
pub(super) fn require_room(file: impl AsFd, dir: &Path, need: u64) -> Result<(), NoRoom> {
    // A filesystem that does not tell is tried.
    let Ok(disk) = rustix::fs::fstatvfs(file) else { return Ok(()) };
    let free = disk.f_bfree.saturating_mul(disk.f_frsize);
    match disk.f_blocks == 0 || need <= free {
        true => Ok(()),
        false => Err(NoRoom { dir: dir.to_owned(), need, free }),
    }
}

/// Whether the disk of `dir` has `need` bytes free, as far as it tells.
#[must_use]
pub fn has_room(dir: &Path, need: u64) -> bool {
    File::open(dir).is_ok_and(|opened| require_room(opened, dir, need).is_ok())
}

/// The bytes that a file takes on its disk.
pub(super) fn occupied(file: &File) -> io::Result<u64> {
    Ok(file.metadata()?.blocks().saturating_mul(512))
}

/// Copies the content of `from`, `limit` bytes at most, into the empty file `to`.
///
/// # Errors
/// As reading and writing have them.
pub fn copy_sparse(from: &File, limit: u64, to: &mut File) -> io::Result<()> {
    let copied = copy(from, limit, Some(to), &|_| ());
    copied.map(drop).map_err(|(CopyError::Read(e) | CopyError::Write(e))| e)
}

/// Copies the content of `from`, `limit` bytes at most, to where `to` stands, and returns its
/// digest and length. `progress` is called with the bytes that were got over since the last time.
pub(super) fn copy(
    from: &File,
    limit: u64,
    to: Option<&mut File>,
    progress: &dyn Fn(u64),
) -> Result<(Digest, u64), CopyError> {
    copy_over(from, limit, to, &mut |_, _| (), progress)
}

/// [`copy`] over content that is not to go unseen.
pub(super) fn copy_over(
    from: &File,
    limit: u64,
    mut to: Option<&mut File>,
    before: Before<'_>,
    progress: &dyn Fn(u64),
) -> Result<(Digest, u64), CopyError> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < limit {
        let Run { hole, end } = run_at(from, at).map_err(CopyError::Read)?;
        let end = end.min(limit);
        if end == at {
            break;
        }
        if hole {
            buffer.fill(0);
        }
        if let (true, Some(to)) = (hole, to.as_deref_mut()) {
            before(at, end - at);
            skip(to, end - at, &buffer).map_err(CopyError::Write)?;
        }
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let chunk = buffer.get_mut(..want).unwrap_or_default();
            let got = if hole { want } else { read(from, chunk, at).map_err(CopyError::Read)? };
            let bytes = chunk.get(..got).unwrap_or_default();
            if got == 0 {
                // It was cut short since its end was looked up.
                return finish(hasher, at, to);
            }
            hasher.update(bytes);
            if let (false, Some(to)) = (hole, to.as_deref_mut()) {
                before(at, got as u64);
                to.write_all(bytes).map_err(CopyError::Write)?;
            }
            at += got as u64;
            progress(got as u64);
        }
    }
    finish(hasher, at, to)
}

/// The length counts even where the content ends with a hole.
fn finish(hasher: Hasher, length: u64, to: Option<&mut File>) -> Result<(Digest, u64), CopyError> {
    let stretch = |to: &mut File| {
        let end = to.stream_position()?;
        if to.metadata()?.len() < end { to.set_len(end) } else { Ok(()) }
    };
    to.map_or(Ok(()), stretch).map_err(CopyError::Write)?;
    Ok((hasher.finish(), length))
}

/// What begins at some place of a file, and where it ends.
struct Run {
    hole: bool,
    end: u64,
}

fn run_at(file: &File, at: u64) -> io::Result<Run> {
    match rustix::fs::seek(file, Find::Data(at)) {
        Ok(data) if data > at => Ok(Run { hole: true, end: data }),
        // If it is cut short just now, reading finds out.
        Ok(_) => {
            Ok(Run { hole: false, end: rustix::fs::seek(file, Find::Hole(at)).unwrap_or(u64::MAX) })
        }
        // No data from here on.
        Err(Errno::NXIO) => Ok(Run { hole: true, end: file.metadata()?.len().max(at) }),
        // A filesystem that knows no holes.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(Run { hole: false, end: u64::MAX }),
        Err(errno) => Err(errno.into()),
    }
}

fn read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Makes a hole of `length` bytes where `to` stands, and goes behind it.
fn skip(to: &mut File, length: u64, zeros: &[u8]) -> io::Result<()> {
    let at = to.stream_position()?;
    let end = at.saturating_add(length);
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if to.metadata()?.len() > at && rustix::fs::fallocate(&*to, punch, at, length).is_err() {
        let mut left = length;
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
            to.write_all(zeros.get(..now).unwrap_or_default())?;
            left -= now as u64;
        }
    }
    to.seek(SeekFrom::Start(end)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::baseline::sha256;
    use crate::sys::test::{disk, memory};

    /// Data, a hole, data, and a hole at the end.
    fn sparse(path: &Path) -> (File, Vec<u8>) {
        let file = File::options().create_new(true).write(true).read(true).open(path).unwrap();
        file.write_all_at(b"begin", 0).unwrap();
        file.write_all_at(b"middle", 40 << 20).unwrap();
        file.set_len(80 << 20).unwrap();
        let mut content = vec![0; 80 << 20];
        content[..5].copy_from_slice(b"begin");
        content[40 << 20..][..6].copy_from_slice(b"middle");
        (file, content)
    }

    #[test]
    fn holes_stay_holes_and_count_as_zeros() {
        for room in [disk(), memory()] {
            let (from, content) = sparse(&room.path().join("from"));
            let path = room.path().join("to");
            let mut to = File::create_new(&path).unwrap();
            let told = std::cell::Cell::new(0);
            let progress = |bytes| told.set(told.get() + bytes);
            let Ok((digest, length)) = copy(&from, u64::MAX, Some(&mut to), &progress) else {
                panic!("the copy failed");
            };
            assert_eq!((digest, length), (sha256(&content), 80 << 20));
            assert_eq!(told.get(), length);
            assert!(std::fs::read(&path).unwrap() == content);
            assert!(occupied(&to).unwrap() < 1 << 20, "{}", occupied(&to).unwrap());
        }
    }

    #[test]
    fn what_was_in_the_place_of_a_hole_is_gone_afterwards() {
        for room in [disk(), memory()] {
            let (from, content) = sparse(&room.path().join("from"));
            let path = room.path().join("to");
            std::fs::write(&path, vec![b'x'; 50 << 20]).unwrap();
            let mut to = File::options().read(true).write(true).open(&path).unwrap();
            assert!(copy(&from, u64::MAX, Some(&mut to), &|_| ()).is_ok());
            assert!(std::fs::read(&path).unwrap() == content);
            assert!(occupied(&to).unwrap() < 1 << 20, "{}", occupied(&to).unwrap());
        }
    }

    #[test]
    fn no_more_is_copied_than_was_asked_for() {
        let room = disk();
        let (from, content) = sparse(&room.path().join("from"));
        for limit in [0, 3, 5, 4096, 30 << 20, (40 << 20) + 3] {
            let path = room.path().join("to");
            let mut to = File::create(&path).unwrap();
            let copied = copy(&from, limit, Some(&mut to), &|_| ());
            let limit = usize::try_from(limit).unwrap();
            assert!(copied.is_ok_and(|found| found.0 == sha256(&content[..limit])));
            let mut found = Vec::new();
            File::open(&path).unwrap().read_to_end(&mut found).unwrap();
            assert!(found == content[..limit]);
        }
    }

    #[test]
    fn what_is_missing_and_where_is_told() {
        let room = memory();
        let file = File::create(room.path().join("f")).unwrap();
        assert!(require_room(&file, room.path(), 1).is_ok());
        let error = require_room(&file, room.path(), 1 << 60).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(room.path().to_str().unwrap()) && told.contains("TiB"), "{told}");
    }
}

//! A few numbers that two processes share, in memory that has no name.
//!
//! Whoever has the descriptor has the numbers. Their memory cannot shrink, so reading them never
//! fails, whatever the other process does.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};

/// How many there are.
const COUNT: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct Counters {
    numbers: NonNull<[AtomicU64; COUNT]>,
    memory: OwnedFd,
}

// SAFETY: the numbers are only touched atomically, and the mapping belongs to this value alone.
unsafe impl Send for Counters {}
// SAFETY: as above.
unsafe impl Sync for Counters {}

impl Counters {
    /// All are zero.
    ///
    /// # Errors
    /// When the system has no memory or no descriptor to give.
    pub fn new() -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memory = memfd_create("steadfast-counters", flags)?;
        ftruncate(&memory, size_of::<[AtomicU64; COUNT]>() as u64)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK)?;
        Self::of(memory)
    }

    /// Those of another process.
    ///
    /// # Errors
    /// When it is not what [`Counters::new`] made, or cannot be mapped.
    pub fn of(memory: OwnedFd) -> io::Result<Self> {
        let length = size_of::<[AtomicU64; COUNT]>();
        let sealed = fcntl_get_seals(&memory)?.contains(SealFlags::SHRINK);
        if !sealed || rustix::fs::fstat(&memory)?.st_size != length as i64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&memory);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let at =
            unsafe { libc::mmap(std::ptr::null_mut(), length, access, libc::MAP_SHARED, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let numbers = NonNull::new(at.cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { numbers, memory })
    }

    fn at(&self, which: usize) -> &AtomicU64 {
        // SAFETY: the mapping is page-aligned, of this size, can neither shrink nor go while
        // `self` lives, and every bit pattern is a number.
        let all = unsafe { self.numbers.as_ref() };
        &all[which % COUNT]
    }

    /// Number `which`.
    #[must_use]
    pub fn get(&self, which: usize) -> u64 {
        self.at(which).load(Ordering::Acquire)
    }

    /// Sets it.
    pub fn set(&self, which: usize, value: u64) {
        self.at(which).store(value, Ordering::Release);
    }

    /// Adds one.
    pub fn add(&self, which: usize) {
        self.at(which).fetch_add(1, Ordering::AcqRel);
    }
}

impl AsFd for Counters {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this size, and nobody borrows from it any more.
        unsafe { libc::munmap(self.numbers.as_ptr().cast(), size_of::<[AtomicU64; COUNT]>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_descriptor_has_the_numbers() {
        let ours = Counters::new().unwrap();
        let theirs = Counters::of(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        ours.set(1, 7);
        theirs.add(1);
        theirs.add(0);
        assert_eq!([0, 1, 2].map(|which| ours.get(which)), [1, 8, 0]);
        drop(ours);
        assert_eq!(theirs.get(1), 8);
        assert!(ftruncate(&theirs, 0).is_err());
    }

    #[test]
    fn nothing_else_is_taken_for_them() {
        let plain = std::fs::File::open("/proc/version").unwrap();
        assert!(Counters::of(plain.into()).is_err());
        let unsealed = memfd_create("x", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&unsealed, 64).unwrap();
        assert!(Counters::of(unsealed).is_err());
    }
}

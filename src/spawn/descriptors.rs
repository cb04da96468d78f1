//! The descriptors of a child: which numbers become which files.

#![allow(unsafe_code, reason = "descriptors by number")]

use std::ffi::c_long;
use std::os::fd::RawFd;

/// A descriptor of the child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    /// The number in the child.
    pub(super) number: RawFd,
    pub(super) source: Source,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// A descriptor of the parent.
    File(RawFd),
    /// `/dev/null`, which the child opens.
    Null,
}

/// The mappings of one child.
pub(super) struct Mappings {
    list: Vec<Mapping>,
    /// A descriptor that has to stay open until the program is executed, under any number.
    kept: Option<RawFd>,
}

impl Mappings {
    pub(super) fn new(list: Vec<Mapping>) -> Self {
        Self { list, kept: None }
    }

    /// Keeps a descriptor open until the program is executed, although its number may be mapped.
    pub(super) fn keep(&mut self, descriptor: Option<RawFd>) {
        self.kept = descriptor;
    }

    /// Carries out the mappings in the child. Returns the number of the one that failed, and the
    /// errno. Async-signal-safe.
    ///
    /// At first each source whose number is about to be replaced is moved to a number that is not.
    /// The moved descriptors, and `/dev/null`, close when the program is executed.
    pub(super) fn apply(&mut self) -> Result<(), (RawFd, i32)> {
        if let Some(kept) = self.kept.filter(|kept| self.is_replaced(*kept)) {
            self.duplicate(kept).map_err(|errno| (kept, errno))?;
        }
        for index in 0..self.list.len() {
            let Some(&Mapping { number, source }) = self.list.get(index) else {
                continue;
            };
            let Source::File(file) = source else { continue };
            if file != number && self.is_replaced(file) {
                let moved = self.duplicate(file).map_err(|errno| (number, errno))?;
                if let Some(mapping) = self.list.get_mut(index) {
                    mapping.source = Source::File(moved);
                }
            }
        }
        for &Mapping { number, source } in &self.list {
            let mapped = match source {
                Source::File(file) => replace(file, number),
                Source::Null => open_null(number).and_then(|file| replace(file, number)),
            };
            mapped.map_err(|errno| (number, errno))?;
        }
        Ok(())
    }

    /// Whether a descriptor of this number is going to be replaced.
    fn is_replaced(&self, number: RawFd) -> bool {
        self.list.iter().any(|mapping| mapping.number == number)
    }

    /// Duplicates a descriptor to a number that stays.
    fn duplicate(&self, file: RawFd) -> Result<RawFd, i32> {
        let mut least = 3;
        loop {
            // SAFETY: no pointers.
            let result = checked(unsafe {
                libc::syscall(libc::SYS_fcntl, file, libc::F_DUPFD_CLOEXEC, least)
            });
            match result {
                Ok(number) if self.is_replaced(number) => least = number + 1,
                // There is no number so high.
                Err(libc::EINVAL) => return Err(libc::EMFILE),
                result => return result,
            }
        }
    }
}

/// Makes the file the descriptor `number`, which is inherited.
fn replace(file: RawFd, number: RawFd) -> Result<(), i32> {
    // SAFETY: no pointers. The descriptor that is replaced is a copy of the parent's.
    let result = unsafe {
        match file == number {
            // It has the right number already, and only has to stay open.
            true => libc::syscall(libc::SYS_fcntl, file, libc::F_SETFD, 0),
            false => libc::syscall(libc::SYS_dup3, file, number, 0),
        }
    };
    checked(result).map(drop)
}

/// Opens `/dev/null`: for reading as standard input, and for writing otherwise. Not by the C
/// library's `open`, at which a thread can be cancelled.
fn open_null(number: RawFd) -> Result<RawFd, i32> {
    let access = match number {
        0 => libc::O_RDONLY,
        _ => libc::O_WRONLY,
    };
    // SAFETY: the path is a constant string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            c"/dev/null".as_ptr(),
            access | libc::O_CLOEXEC,
        )
    };
    checked(result)
}

/// The result of a system call, or its errno.
pub(super) fn checked(result: c_long) -> Result<RawFd, i32> {
    match result {
        // SAFETY: the location of errno of this thread, which this child has for itself while the
        // parent's thread is suspended.
        -1 => Err(unsafe { *libc::__errno_location() }),
        result => Ok(result as RawFd),
    }
}

#[cfg(all(test, not(exitring_loom)))]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;
    use crate::sys;

    #[test]
    fn a_kept_descriptor_stays_open_although_its_number_is_mapped() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("descriptors are free");
        let (mapped, when_mapped) = pipe_with(PipeFlags::CLOEXEC).expect("descriptors are free");
        let null = File::open("/dev/null").expect("it exists");
        let mut mappings = Mappings::new(vec![Mapping {
            number: writer.as_raw_fd(),
            source: Source::File(null.as_raw_fd()),
        }]);
        mappings.keep(Some(writer.as_raw_fd()));
        let run = || {
            let failed = mappings.apply().is_err();
            let _ = rustix::io::write(&when_mapped, &[u8::from(failed)]);
            loop {
                std::thread::park();
            }
        };
        // SAFETY: the child calls only what is async-signal-safe.
        let child = unsafe { sys::fork(run) }.expect("it forks");
        drop((writer, when_mapped));
        let mut failed = [1];
        let read = rustix::io::read(&mapped, &mut failed);
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut fds = [PollFd::new(&reader, PollFlags::IN)];
        let closed = poll(&mut fds, Some(&now));
        sys::kill(child, libc::SIGKILL).expect("it lives");
        sys::wait_for_child(child);
        sys::waitid(sys::WaitTarget::ReapPid(child)).expect("it has ended");
        assert_eq!((read, failed), (Ok(1), [0]));
        assert_eq!(closed, Ok(0), "the child has the other end");
    }
}

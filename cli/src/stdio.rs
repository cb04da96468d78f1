//! Blocking reads and writes of the standard streams.
//!
//! Another program that shares a stream may have made it non-blocking, as node, ssh and asyncio do.
//! The flag belongs to the open file description and stays as it is; this module waits with
//! poll(2).

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Writes all bytes to standard output.
pub(crate) fn write_out(bytes: &[u8]) -> io::Result<()> {
    write_all(rustix::stdio::stdout(), bytes)
}

/// Writes all bytes to standard error.
pub(crate) fn write_err(bytes: &[u8]) -> io::Result<()> {
    write_all(rustix::stdio::stderr(), bytes)
}

/// A reader that blocks, even if its file is non-blocking.
pub(crate) struct Blocking<T>(pub(crate) T);

impl<T: Read + AsFd> Read for Blocking<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.0.as_fd(), PollFlags::IN)?;
                }
                read => return read,
            }
        }
    }
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait(file: BorrowedFd<'_>, event: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(file, event)], None) {
        // After an interruption the next read or write may find the file not ready, and wait again.
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn a_non_blocking_file_is_read_and_written_to_its_end() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("a flag");
        theirs.set_nonblocking(true).expect("a flag");
        let bytes = vec![7; 3_000_000];
        let read = thread::scope(|scope| {
            scope.spawn(|| {
                write_all(theirs.as_fd(), &bytes).expect("written");
                drop(theirs.shutdown(std::net::Shutdown::Both));
            });
            let mut read = Vec::new();
            Blocking(ours).read_to_end(&mut read).expect("read");
            read
        });
        assert_eq!(read.len(), 3_000_000);
    }
}

//! The process that keeps open pipes readable after the run has ended.
//!
//! A process that a job left in the background may go on writing to a pipe of exitring after the
//! run, and would be killed by SIGPIPE. So the pipes that are open at the end of the run are passed
//! to a process of their own, which reads and discards what arrives, and ends when the last writer
//! has closed its pipe. It runs in its own session, with / as its directory, and holds no file of
//! exitring: a process that waits for exitring, or for the end of its output, does not wait for the
//! drainer.

use std::fs::OpenOptions;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::code;
use crate::descriptors::close_on_exec;
use crate::failure::Failure;

/// The hidden subcommand.
pub(crate) const SUBCOMMAND: &str = "drain-pipes";
/// Pipes per message; the kernel accepts up to 253.
const AT_ONCE: usize = 64;
const READ_AT_ONCE: usize = 64 * 1024;

/// Starts the process and passes the pipes to it. Returns when it has received them and is in a
/// session of its own.
pub(crate) fn start(pipes: Vec<OwnedFd>) -> io::Result<()> {
    if pipes.is_empty() {
        return Ok(());
    }
    let (mut socket, child_socket) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(child_socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // Keeps descriptors that this process inherited beyond the standard streams out of the drainer.
    close_on_exec();
    // Not waited for: it outlives this process.
    command.spawn()?;
    drop(command);
    for pipes in pipes.chunks(AT_ONCE) {
        let pipes: Vec<_> = pipes.iter().map(AsFd::as_fd).collect();
        send(&socket, &pipes)?;
    }
    drop(pipes);
    socket.shutdown(Shutdown::Write)?;
    // The drainer sends a byte when it has the pipes. If it has ended, there is none.
    socket.read_exact(&mut [0])
}

fn send(to: &UnixStream, pipes: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    // The buffer has capacity for them.
    ancillary.push(SendAncillaryMessage::ScmRights(pipes));
    sendmsg(
        to,
        &[IoSlice::new(&[0])],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// The subcommand: receives pipes and reads them until all are closed.
pub(crate) fn drain() -> Result<u8, Failure> {
    let unusable = |error: io::Error| {
        Failure::usage(format!(
            "standard input is not a socket that sends pipes: {error}"
        ))
        .remedy("`exitring run` uses this subcommand internally")
    };
    // It fails for the leader of a process group. Such a process has a session of its own if the
    // program that started it created one.
    let _ = rustix::process::setsid();
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    let mut socket = UnixStream::from(socket.map_err(|error| unusable(error.into()))?);
    let null = OpenOptions::new().read(true).open("/dev/null");
    null.and_then(|null| Ok(rustix::stdio::dup2_stdin(null)?))
        .map_err(unusable)?;
    let pipes = receive(&socket).map_err(unusable)?;
    // The program that started this process may have ended.
    let _ = socket.write_all(&[0]);
    drop(socket);
    read_to_their_ends(pipes);
    Ok(code::OK)
}

fn receive(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut pipes = Vec::new();
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        let received = match recvmsg(from, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => continue,
            received => received?,
        };
        if received.bytes == 0 {
            return Ok(pipes);
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                pipes.extend(received);
            }
        }
    }
}

fn read_to_their_ends(mut pipes: Vec<OwnedFd>) {
    let mut buffer = vec![0; READ_AT_ONCE];
    while !pipes.is_empty() {
        let mut ends: Vec<_> = pipes
            .iter()
            .map(|pipe| PollFd::new(pipe, PollFlags::IN))
            .collect();
        if poll(&mut ends, None).is_err_and(|error| error != Errno::INTR) {
            return;
        }
        let ready: Vec<_> = ends.iter().map(|end| !end.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        pipes.retain(|pipe| !ready.next().unwrap_or_default() || read_once(pipe, &mut buffer));
    }
}

/// Reads once. Returns whether the pipe is still open. It is non-blocking, as the run has set it,
/// and a process of a job may have taken what was to be read.
fn read_once(pipe: &OwnedFd, buffer: &mut [u8]) -> bool {
    match rustix::io::read(pipe, buffer) {
        Ok(count) => count > 0,
        Err(error) => matches!(error, Errno::INTR | Errno::AGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pipe_is_open_until_its_last_writer_is_gone() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        rustix::io::ioctl_fionbio(&reader, true).expect("a pipe");
        assert!(read_once(&reader, &mut [0; 8]));
        drop(writer);
        assert!(!read_once(&reader, &mut [0; 8]));
    }
}

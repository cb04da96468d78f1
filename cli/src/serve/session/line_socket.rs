//! A socket that is read line by line, with the descriptors that come along, and written in whole
//! lines.
//!
//! Only pidfds are accepted, and only they are closed here: closing another kind of descriptor may
//! take for ever. Its link in `/proc` shows the kind without a query to its file system.
//! Descriptors that are not pidfds go to the [`Closer`].

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};

use crate::serve::sys::process;
use crate::serve::threads::closer::Closer;

/// How many pidfds of a connection may wait for their line. More are closed at once.
const PIDFDS_MAX: usize = 8;
/// `SCM_MAX_FD`: the most that come with one message. With less space, the kernel would close the
/// rest, on this thread.
const DESCRIPTORS_SENT_MAX: usize = 253;
const READ_BYTES: usize = 16 * 1024;

pub(super) struct LineSocket {
    stream: UnixStream,
    /// Held during a write, so that lines are not mixed.
    writing: Mutex<()>,
}

/// The reading side of a [`LineSocket`].
pub(super) struct LineReader<'a> {
    socket: &'a LineSocket,
    codec: AnyDelimiterCodec,
    buffer: BytesMut,
    /// How many bytes have been received.
    received: u64,
    pidfds: VecDeque<PassedPidfd>,
}

/// A pidfd that came with a line.
struct PassedPidfd {
    pidfd: OwnedFd,
    /// The offset of the last byte that was read with it. A read ends with the message that has
    /// descriptors, so this byte is of that message. Its first byte need not be the first of the
    /// read.
    at: u64,
}

/// The result of one read.
#[derive(Default)]
struct Chunk {
    bytes: usize,
    pidfds: Vec<OwnedFd>,
    /// Descriptors that are not pidfds.
    foreign: Vec<OwnedFd>,
}

/// What was read.
pub(super) enum Received {
    Line(Bytes),
    TooLong,
    /// A descriptor that is not a pidfd. The receiver completes when it is closed.
    NotAPidfd(oneshot::Receiver<()>),
    End,
}

impl LineSocket {
    pub(super) fn new(stream: UnixStream) -> Self {
        let writing = Mutex::new(());
        Self { stream, writing }
    }

    /// Reads lines of at most `max` bytes.
    pub(super) fn lines(&self, max: usize) -> LineReader<'_> {
        LineReader {
            socket: self,
            codec: AnyDelimiterCodec::new_with_max_length(b"\n".into(), b"\n".into(), max),
            buffer: BytesMut::new(),
            received: 0,
            pidfds: VecDeque::new(),
        }
    }

    /// Writes whole lines. Waits until the client has read enough of what was written before.
    pub(super) async fn write(&self, mut text: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        while !text.is_empty() {
            match self.stream.try_write(text) {
                Ok(count) => text = &text[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for LineSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Reads once, without waiting.
fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<Chunk> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SENT_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut chunk = Chunk {
        bytes: received.bytes,
        ..Chunk::default()
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                match process::is_pidfd(&fd) {
                    true => chunk.pidfds.push(fd),
                    false => chunk.foreign.push(fd),
                }
            }
        }
    }
    Ok(chunk)
}

impl LineReader<'_> {
    /// The next line of a user's connection.
    pub(super) async fn next(&mut self, closer: &Closer, uid: u32) -> io::Result<Received> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(line)) => return Ok(Received::Line(line)),
                Ok(None) => {}
                Err(AnyDelimiterCodecError::MaxChunkLengthExceeded) => {
                    return Ok(Received::TooLong);
                }
                Err(AnyDelimiterCodecError::Io(error)) => return Err(error),
            }
            let mut bytes = [0; READ_BYTES];
            let stream = &self.socket.stream;
            let chunk = stream
                .async_io(Interest::READABLE, || receive(stream, &mut bytes))
                .await?;
            if !chunk.foreign.is_empty() {
                return Ok(Received::NotAPidfd(closer.close(uid, chunk.foreign)));
            }
            // A last line without its end is ignored.
            if chunk.bytes == 0 {
                return Ok(Received::End);
            }
            self.buffer.extend_from_slice(&bytes[..chunk.bytes]);
            self.received += chunk.bytes as u64;
            let at = self.received - 1;
            let pidfds = chunk.pidfds.into_iter();
            self.pidfds
                .extend(pidfds.map(|pidfd| PassedPidfd { pidfd, at }));
            self.pidfds.truncate(PIDFDS_MAX);
        }
    }

    /// Takes the oldest pidfd that was received.
    pub(super) fn take_pidfd(&mut self) -> Option<OwnedFd> {
        self.pidfds.pop_front().map(|passed| passed.pidfd)
    }

    /// Closes the pidfds that came with the last line, or before it, and were not taken. Returns
    /// whether there were any. The others belong to later lines of the same read.
    pub(super) fn close_unused(&mut self) -> bool {
        let line_end = self.received - self.buffer.len() as u64;
        let before = self.pidfds.len();
        self.pidfds.retain(|passed| passed.at >= line_end);
        self.pidfds.len() < before
    }
}

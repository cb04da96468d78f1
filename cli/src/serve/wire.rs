//! A connection's lines: read with the descriptors that come along, written whole.
//!
//! Nothing but pidfds is wanted, and only they are closed here: to close a foreign descriptor may take for ever. What is
//! foreign is told by its link in `/proc`, which asks nobody but the kernel, and goes to the [`Closer`].

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, oneshot};
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};

use super::closer::Closer;
use super::process;

/// Descriptors of a connection that wait for their line; more are closed at once.
const DESCRIPTORS_MAX: usize = 8;
/// `SCM_MAX_FD`: as many as come with one message. With less room the kernel would close the rest, on this very thread.
const DESCRIPTORS_SENT_MAX: usize = 253;
const READ_BYTES: usize = 16 * 1024;

pub(super) struct Wire {
    stream: UnixStream,
    /// Held while lines are written: they are never mixed.
    writing: Mutex<()>,
}

/// The reading side.
pub(super) struct Lines<'a> {
    wire: &'a Wire,
    codec: AnyDelimiterCodec,
    buffer: BytesMut,
    /// How many bytes have come.
    received: u64,
    descriptors: VecDeque<Passed>,
}

/// A pidfd that came with a line.
struct Passed {
    pidfd: OwnedFd,
    /// The place of the last byte that was read with it. A read ends with the message that has descriptors, so this byte is
    /// of the message that had them; its first byte may have come a read later than others before it.
    at: u64,
}

/// What one read has brought.
#[derive(Default)]
struct Got {
    bytes: usize,
    pidfds: Vec<OwnedFd>,
    /// Descriptors that are no pidfds.
    foreign: Vec<OwnedFd>,
}

pub(super) enum Line {
    Whole(Bytes),
    TooLong,
    /// A descriptor came that is no pidfd. Told when it is closed.
    Foreign(oneshot::Receiver<()>),
    End,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        let writing = Mutex::new(());
        Self { stream, writing }
    }

    /// Lines of at most so many bytes.
    pub(super) fn lines(&self, max: usize) -> Lines<'_> {
        Lines {
            wire: self,
            codec: AnyDelimiterCodec::new_with_max_length(b"\n".into(), b"\n".into(), max),
            buffer: BytesMut::new(),
            received: 0,
            descriptors: VecDeque::new(),
        }
    }

    /// Writes whole lines; waits as long as the client takes to read what was written before.
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

    /// Takes what has come and nobody wants any more, and lets nothing more come. After that, to close the socket
    /// closes nothing else. Gives the descriptors in it that are to be closed elsewhere.
    pub(super) fn drain(&self) -> Vec<OwnedFd> {
        // Whoever writes now is refused: the kernel looks at this and puts into the queue under one lock.
        let _ = rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Read);
        let mut foreign = Vec::new();
        let mut bytes = [0; READ_BYTES];
        while let Ok(got) = receive(&self.stream, &mut bytes) {
            foreign.extend(got.foreign);
            if got.bytes == 0 {
                break;
            }
        }
        foreign
    }
}

/// One read, which does not wait.
fn receive(stream: &UnixStream, bytes: &mut [u8]) -> io::Result<Got> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_SENT_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut got = Got {
        bytes: received.bytes,
        ..Got::default()
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                match process::is_pidfd(&fd) {
                    true => got.pidfds.push(fd),
                    false => got.foreign.push(fd),
                }
            }
        }
    }
    Ok(got)
}

impl Lines<'_> {
    pub(super) async fn next(&mut self, closer: &Closer) -> io::Result<Line> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(line)) => return Ok(Line::Whole(line)),
                Ok(None) => {}
                Err(AnyDelimiterCodecError::MaxChunkLengthExceeded) => return Ok(Line::TooLong),
                Err(AnyDelimiterCodecError::Io(error)) => return Err(error),
            }
            let mut bytes = [0; READ_BYTES];
            let stream = &self.wire.stream;
            let got = stream
                .async_io(Interest::READABLE, || receive(stream, &mut bytes))
                .await?;
            if !got.foreign.is_empty() {
                return Ok(Line::Foreign(closer.close(got.foreign)));
            }
            // What breaks off is no line.
            if got.bytes == 0 {
                return Ok(Line::End);
            }
            self.buffer.extend_from_slice(&bytes[..got.bytes]);
            self.received += got.bytes as u64;
            let at = self.received - 1;
            let pidfds = got.pidfds.into_iter().map(|pidfd| Passed { pidfd, at });
            self.descriptors.extend(pidfds);
            self.descriptors.truncate(DESCRIPTORS_MAX);
        }
    }

    /// The oldest descriptor that came.
    pub(super) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front().map(|passed| passed.pidfd)
    }

    /// Closes what came with the last line, or before, and was not taken; whether there was any. What is left is of
    /// lines that came with it in one read, and after it.
    pub(super) fn close_untaken(&mut self) -> bool {
        let taken_up = self.received - self.buffer.len() as u64;
        let before = self.descriptors.len();
        self.descriptors.retain(|passed| passed.at >= taken_up);
        self.descriptors.len() < before
    }
}

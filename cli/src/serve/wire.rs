//! A connection's lines: read with the descriptors that come along, written whole.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio_util::codec::{AnyDelimiterCodec, AnyDelimiterCodecError, Decoder};

/// Descriptors of a connection that wait for their line; more are closed at once.
const DESCRIPTORS_MAX: usize = 8;
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
    descriptors: VecDeque<OwnedFd>,
}

pub(super) enum Line {
    Whole(Bytes),
    TooLong,
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

    async fn read(&self, into: &mut BytesMut, fds: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
        self.stream
            .async_io(Interest::READABLE, || {
                let mut bytes = [0; READ_BYTES];
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let got = recvmsg(
                    &self.stream,
                    &mut [IoSliceMut::new(&mut bytes)],
                    &mut control,
                    RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
                )?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(more) = message {
                        fds.extend(more);
                        fds.truncate(DESCRIPTORS_MAX);
                    }
                }
                into.extend_from_slice(&bytes[..got.bytes]);
                Ok(got.bytes)
            })
            .await
    }
}

impl Lines<'_> {
    pub(super) async fn next(&mut self) -> io::Result<Line> {
        loop {
            match self.codec.decode(&mut self.buffer) {
                Ok(Some(line)) => return Ok(Line::Whole(line)),
                Ok(None) => {}
                Err(AnyDelimiterCodecError::MaxChunkLengthExceeded) => return Ok(Line::TooLong),
                Err(AnyDelimiterCodecError::Io(error)) => return Err(error),
            }
            // What breaks off is no line.
            if self
                .wire
                .read(&mut self.buffer, &mut self.descriptors)
                .await?
                == 0
            {
                return Ok(Line::End);
            }
        }
    }

    /// The oldest descriptor that came.
    pub(super) fn descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }
}

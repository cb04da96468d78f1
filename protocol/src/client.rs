//! A blocking client.

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::{
    Answer, ClientLine, Error, Hello, Loss, Record, Request, RequestId, ServerLine, VERSION, Watch,
    Watched, Welcome,
};

/// How long [`Client::connect`] waits for the answer to the hello, which a running service sends at
/// once.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the service.
///
/// Events that come before an answer are queued, and [`notice`](Self::notice) returns them later.
/// The queue holds at most the events that the service sends before the answer.
pub struct Client {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    welcome: Welcome,
    next_id: u64,
    /// The beginning of a line that was incomplete when a timeout expired.
    partial: Vec<u8>,
    events: std::collections::VecDeque<Notice>,
}

/// An event of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A process ended.
    Exit(Box<Record>),
    /// Records were dropped unacknowledged.
    Lost(Loss),
    /// All records up to this position were delivered. The log ended there when the subscription
    /// began.
    CaughtUp(u64),
}

/// An error of a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A system call on the socket failed.
    #[error("I/O on the connection to the service failed")]
    Io(#[from] io::Error),
    /// The service refused the request.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The service sent a line that this version does not understand.
    #[error("the service sent an unexpected line: {0}")]
    Protocol(String),
    /// The service closed the connection.
    #[error("the service closed the connection")]
    Closed,
}

impl ClientError {
    /// Whether a timeout expired before a line came.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The code of a refused request.
    pub fn code(&self) -> Option<crate::Code> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }
}

impl Client {
    /// Connects and sends the hello, with the name of the client if there is one.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; an [`Io`](ClientError::Io) of the kind `TimedOut` if no answer comes within
    /// [`HELLO_TIMEOUT`].
    pub fn connect(socket: impl AsRef<Path>, client: Option<&str>) -> Result<Self, ClientError> {
        Self::connect_within(socket.as_ref(), client, HELLO_TIMEOUT)
    }

    fn connect_within(
        socket: &Path,
        client: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let writer = UnixStream::connect(socket)?;
        let reader = BufReader::new(writer.try_clone()?);
        let mut this = Self {
            writer,
            reader,
            welcome: Welcome {
                version: 0,
                service: String::new(),
                instance: String::new(),
                uid: 0,
                limits: crate::Limits::NONE,
            },
            next_id: 1,
            partial: Vec::new(),
            events: Default::default(),
        };
        let hello = Hello {
            version: VERSION,
            client: client.map(Into::into),
        };
        this.set_timeout(Some(timeout))?;
        match this.ask(Request::Hello(hello)) {
            Ok(Answer::Hello(welcome)) => this.welcome = welcome,
            Ok(other) => return Err(unexpected(&other)),
            Err(error) if error.is_timeout() => {
                let error = format!("no answer to the hello within {timeout:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, error).into());
            }
            Err(error) => return Err(error),
        }
        this.set_timeout(None)?;
        Ok(this)
    }

    /// The answer of the service to the hello.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Sends a request, and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with the reason of the service, or an error of the connection.
    pub fn ask(&mut self, request: Request) -> Result<Answer, ClientError> {
        self.ask_with(request, None)
    }

    /// Watches a process by its pid.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn watch(&mut self, watch: Watch) -> Result<Watched, ClientError> {
        match self.ask(Request::Watch(watch))? {
            Answer::Watched(watched) => Ok(watched),
            other => Err(unexpected(&other)),
        }
    }

    /// Watches a process by a pidfd, which goes with the request. A pidfd identifies one process
    /// for good, while the kernel may give a pid to another process.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn watch_pidfd(
        &mut self,
        pidfd: BorrowedFd<'_>,
        watch: Watch,
    ) -> Result<Watched, ClientError> {
        match self.ask_with(Request::Watch(watch), Some(pidfd))? {
            Answer::Watched(watched) => Ok(watched),
            other => Err(unexpected(&other)),
        }
    }

    /// Starts a process and watches it.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn spawn(&mut self, spawn: crate::Spawn) -> Result<Watched, ClientError> {
        match self.ask(Request::Spawn(spawn.into()))? {
            Answer::Watched(watched) => Ok(watched),
            other => Err(unexpected(&other)),
        }
    }

    /// Subscribes to the records from a position in the log on.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn subscribe(&mut self, from: u64) -> Result<(), ClientError> {
        let subscribe = crate::Subscribe { from };
        self.ask(Request::Subscribe(subscribe)).map(|_| ())
    }

    /// Acknowledges records. Returns how many the service dropped.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ack(&mut self, upto: u64) -> Result<u64, ClientError> {
        match self.ask(Request::Ack(crate::Acknowledge { upto }))? {
            Answer::Acked(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets how long [`notice`](Self::notice) and requests wait for a line. `None`, which is the
    /// initial value, waits for ever.
    ///
    /// # Errors
    ///
    /// The error of `setsockopt`.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.writer.set_read_timeout(timeout)
    }

    /// Waits for the next event of the subscription.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the service is gone; an [`Io`](ClientError::Io) of the kind
    /// `WouldBlock` when the timeout expires.
    pub fn notice(&mut self) -> Result<Notice, ClientError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        match self.read()? {
            ServerLine::Exit { exit } => Ok(Notice::Exit(exit)),
            ServerLine::Lost { lost } => Ok(Notice::Lost(lost)),
            ServerLine::CaughtUp { caught_up } => Ok(Notice::CaughtUp(caught_up)),
            ServerLine::Error { error, .. } => Err(error.into()),
            ServerLine::Ok { ok, .. } => Err(unexpected(&ok)),
        }
    }

    /// Whether another line has been received, at least in part.
    pub fn has_more(&self) -> bool {
        !self.events.is_empty() || !self.reader.buffer().is_empty()
    }

    fn ask_with(
        &mut self,
        request: Request,
        pidfd: Option<BorrowedFd<'_>>,
    ) -> Result<Answer, ClientError> {
        let id = RequestId::Number(self.next_id);
        self.next_id += 1;
        let line = ClientLine {
            id: Some(id.clone()),
            request,
        };
        let mut line = serde_json::to_vec(&line).map_err(io::Error::from)?;
        line.push(b'\n');
        // A service that refuses the connection answers and closes, so that the answer may be
        // readable although the request can no longer be sent.
        let sent = self.send(&line, pidfd);
        loop {
            let line = match (self.read(), &sent) {
                (Err(ClientError::Closed), Err(_)) => return Err(sent.unwrap_err().into()),
                (line, _) => line?,
            };
            match line {
                ServerLine::Ok { id: of, ok } if of.as_ref() == Some(&id) => return Ok(*ok),
                ServerLine::Error { id: of, error } if of.is_none() || of.as_ref() == Some(&id) => {
                    return Err(error.into());
                }
                ServerLine::Exit { exit } => self.events.push_back(Notice::Exit(exit)),
                ServerLine::Lost { lost } => self.events.push_back(Notice::Lost(lost)),
                ServerLine::CaughtUp { caught_up } => {
                    self.events.push_back(Notice::CaughtUp(caught_up));
                }
                other => return Err(ClientError::Protocol(format!("{other:?}"))),
            }
        }
    }

    fn send(&mut self, line: &[u8], pidfd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let mut sent = 0;
        if let Some(pidfd) = pidfd {
            let fds = [pidfd.as_fd()];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&fds));
            let data = [IoSlice::new(line)];
            sent = sendmsg(&self.writer, &data, &mut control, SendFlags::NOSIGNAL)?;
        }
        self.writer.write_all(&line[sent..])
    }

    fn read(&mut self) -> Result<ServerLine, ClientError> {
        match self.reader.read_until(b'\n', &mut self.partial) {
            Ok(_) if self.partial.last() != Some(&b'\n') => return Err(ClientError::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(ClientError::Closed);
            }
            Err(error) => return Err(error.into()),
        }
        let line = std::mem::take(&mut self.partial);
        serde_json::from_slice(&line)
            .map_err(|_| ClientError::Protocol(String::from_utf8_lossy(&line).into_owned()))
    }
}

fn unexpected(answer: &Answer) -> ClientError {
    ClientError::Protocol(format!("{answer:?}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_service_that_does_not_answer_the_hello_is_a_timeout() {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let socket = directory.path().join("socket");
        let _silent = UnixListener::bind(&socket).expect("it can be bound");
        let error = Client::connect_within(&socket, None, Duration::from_millis(20)).err();
        match error.expect("nobody answers") {
            ClientError::Io(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            other => panic!("{other}"),
        }
    }
}

//! A client that blocks.

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

/// How long the answer to the hello is waited for, which takes a service that lives no time.
pub const HELLO_PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the service.
///
/// Events that come while an answer is waited for are kept and given by [`notice`](Self::notice) afterwards: at most as many as
/// the service sends before the answer.
pub struct Client {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    welcome: Welcome,
    next_id: u64,
    /// A line that has come in part, when the time was over.
    partial: Vec<u8>,
    events: std::collections::VecDeque<Notice>,
}

/// What a subscription brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A process ended.
    Exit(Box<Record>),
    /// Records are gone.
    Lost(Loss),
    /// All up to this place in the log, where it ended when the subscription began, has come.
    CaughtUp(u64),
}

/// What can go wrong for a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket.
    #[error("the service cannot be reached")]
    Io(#[from] io::Error),
    /// The service said no.
    #[error(transparent)]
    Refused(#[from] Error),
    /// The service said something that this version does not understand.
    #[error("the service said what is no answer: {0}")]
    Nonsense(String),
    /// The service closed the connection.
    #[error("the service closed the connection")]
    Closed,
}

impl ClientError {
    /// Whether it was only that nothing came in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The code of a refusal.
    pub fn code(&self) -> Option<crate::Code> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }
}

impl Client {
    /// Connects, and says hello, in the name of a client if one is given.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; an [`Io`](ClientError::Io) of the kind `TimedOut` if whoever listens does not answer within
    /// [`HELLO_PATIENCE`].
    pub fn connect(socket: impl AsRef<Path>, client: Option<&str>) -> Result<Self, ClientError> {
        Self::connect_within(socket.as_ref(), client, HELLO_PATIENCE)
    }

    fn connect_within(
        socket: &Path,
        client: Option<&str>,
        patience: Duration,
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
        this.set_timeout(Some(patience))?;
        match this.ask(Request::Hello(hello)) {
            Ok(Answer::Hello(welcome)) => this.welcome = welcome,
            Ok(other) => return Err(nonsense(&other)),
            Err(error) if error.is_timeout() => {
                let error = format!("no answer to the hello within {patience:?}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, error).into());
            }
            Err(error) => return Err(error),
        }
        this.set_timeout(None)?;
        Ok(this)
    }

    /// What the service said to the hello.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] with the service's reason, or the connection's end.
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
            other => Err(nonsense(&other)),
        }
    }

    /// Watches a process by a pidfd, which is sent along; there is no race over the number.
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
            other => Err(nonsense(&other)),
        }
    }

    /// Starts a process.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn spawn(&mut self, spawn: crate::Spawn) -> Result<Watched, ClientError> {
        match self.ask(Request::Spawn(spawn))? {
            Answer::Watched(watched) => Ok(watched),
            other => Err(nonsense(&other)),
        }
    }

    /// Has records sent, from a place in the log on.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn subscribe(&mut self, from: u64) -> Result<(), ClientError> {
        let subscribe = crate::Subscribe { from };
        self.ask(Request::Subscribe(subscribe)).map(|_| ())
    }

    /// Lets go of records; returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn ack(&mut self, upto: u64) -> Result<u64, ClientError> {
        match self.ask(Request::Ack(crate::Acknowledge { upto }))? {
            Answer::Acked(count) => Ok(count),
            other => Err(nonsense(&other)),
        }
    }

    /// How long [`notice`](Self::notice) and answers are waited for; `None`: for ever, which is what it begins with.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.writer.set_read_timeout(timeout)
    }

    /// What the subscription brings next.
    ///
    /// # Errors
    ///
    /// [`ClientError::Closed`] when the service is gone; an [`Io`](ClientError::Io) of the kind `WouldBlock` when the time is over.
    pub fn notice(&mut self) -> Result<Notice, ClientError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(event);
        }
        match self.read()? {
            ServerLine::Exit { exit } => Ok(Notice::Exit(exit)),
            ServerLine::Lost { lost } => Ok(Notice::Lost(lost)),
            ServerLine::CaughtUp { caught_up } => Ok(Notice::CaughtUp(caught_up)),
            ServerLine::Error { error, .. } => Err(error.into()),
            ServerLine::Ok { ok, .. } => Err(nonsense(&ok)),
        }
    }

    /// Whether more has come already, in part at least.
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
        // Who is refused at the door gets an answer though it may be too late to ask.
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
                other => return Err(ClientError::Nonsense(format!("{other:?}"))),
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
            .map_err(|_| ClientError::Nonsense(String::from_utf8_lossy(&line).into_owned()))
    }
}

fn nonsense(answer: &Answer) -> ClientError {
    ClientError::Nonsense(format!("{answer:?}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_listens_and_says_nothing_is_not_waited_for_for_ever() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let socket = folder.path().join("socket");
        let _deaf = UnixListener::bind(&socket).expect("it can be bound");
        let error = Client::connect_within(&socket, None, Duration::from_millis(20)).err();
        match error.expect("nobody answers") {
            ClientError::Io(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            other => panic!("{other}"),
        }
    }
}

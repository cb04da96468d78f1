//! A blocking client.

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

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
        loop {
            match self.read()? {
                ServerLine::Exit { exit } => return Ok(Notice::Exit(exit)),
                ServerLine::Lost { lost } => return Ok(Notice::Lost(lost)),
                ServerLine::CaughtUp { caught_up } => return Ok(Notice::CaughtUp(caught_up)),
                ServerLine::Error { id: None, error } => return Err(error.into()),
                // The late answer to a request whose timeout expired.
                ServerLine::Error { id: Some(_), .. } | ServerLine::Ok { .. } => {}
            }
        }
    }

    /// Whether another line has been received, at least in part. It may be one that is ignored.
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
                // The late answer to an earlier request, whose timeout expired.
                ServerLine::Ok { .. } | ServerLine::Error { .. } => {}
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

    /// The next line that is not an event of a later version.
    fn read(&mut self) -> Result<ServerLine, ClientError> {
        let (start, timeout) = (Instant::now(), self.writer.read_timeout()?);
        loop {
            if let Some(line) = self.read_line()? {
                return Ok(line);
            }
            if timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
                return Err(io::Error::from(io::ErrorKind::WouldBlock).into());
            }
        }
    }

    fn read_line(&mut self) -> Result<Option<ServerLine>, ClientError> {
        match self.reader.read_until(b'\n', &mut self.partial) {
            Ok(_) if self.partial.last() != Some(&b'\n') => return Err(ClientError::Closed),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(ClientError::Closed);
            }
            Err(error) => return Err(error.into()),
        }
        let line = std::mem::take(&mut self.partial);
        match serde_json::from_slice(&line) {
            Ok(line) => Ok(Some(line)),
            Err(_) if is_unknown_event(&line) => Ok(None),
            Err(_) => Err(ClientError::Protocol(
                String::from_utf8_lossy(&line).into_owned(),
            )),
        }
    }
}

/// Whether a line is an event that this version does not know. A client ignores those.
fn is_unknown_event(line: &[u8]) -> bool {
    const KNOWN: [&str; 5] = ["ok", "error", "exit", "lost", "caught_up"];
    let line = serde_json::from_slice::<serde_json::Map<_, _>>(line);
    line.is_ok_and(|line: serde_json::Map<String, serde_json::Value>| {
        !line.keys().any(|key| KNOWN.contains(&key.as_str()))
    })
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

    /// A client, and the service's end of its connection.
    fn connected() -> (Client, BufReader<UnixStream>) {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("it can be bound");
        let service = std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a client connects");
            let mut service = BufReader::new(stream);
            let welcome = Welcome {
                version: VERSION,
                service: String::new(),
                instance: String::new(),
                uid: 0,
                limits: crate::Limits::NONE,
            };
            let id = receive(&mut service)["id"].clone();
            let ok = serde_json::json!({ "id": id, "ok": { "hello": welcome } });
            send(&mut service, &ok.to_string());
            service
        });
        let client = Client::connect(&socket, None).expect("it is answered");
        (client, service.join().expect("it does not panic"))
    }

    fn receive(service: &mut BufReader<UnixStream>) -> serde_json::Value {
        let mut line = String::new();
        service.read_line(&mut line).expect("it can be read");
        serde_json::from_str(&line).expect("it is JSON")
    }

    fn send(service: &mut BufReader<UnixStream>, line: &str) {
        writeln!(service.get_mut(), "{line}").expect("it accepts input");
    }

    #[test]
    fn late_answers_and_unknown_events_are_ignored() {
        let (mut client, mut service) = connected();
        let short = Some(Duration::from_millis(20));
        client.set_timeout(short).expect("it is valid");
        let late = client.ack(1).expect_err("nothing answers");
        assert!(late.is_timeout(), "{late}");
        let late = client.ack(2).expect_err("nothing answers");
        assert!(late.is_timeout(), "{late}");
        client.set_timeout(None).expect("it is valid");
        let first = receive(&mut service)["id"].clone();
        let second = receive(&mut service)["id"].clone();
        let third = std::thread::spawn(move || {
            // Both come before the third request, and the events before its answer.
            let refused = r#"{"code": "failed", "message": "late"}"#;
            send(
                &mut service,
                &format!(r#"{{"id": {first}, "ok": {{"acked": 7}}}}"#),
            );
            send(
                &mut service,
                &format!(r#"{{"id": {second}, "error": {refused}}}"#),
            );
            send(&mut service, r#"{"weather": {"sunny": true}}"#);
            send(&mut service, r#"{"caught_up": 5}"#);
            let id = receive(&mut service)["id"].clone();
            send(
                &mut service,
                &format!(r#"{{"id": {id}, "ok": {{"acked": 9}}}}"#),
            );
            send(
                &mut service,
                &format!(r#"{{"id": {second}, "error": {refused}}}"#),
            );
            send(&mut service, r#"{"weather": {"sunny": false}}"#);
            send(&mut service, r#"{"caught_up": 6}"#);
            send(&mut service, r#"{"exit": "of no known form"}"#);
        });
        assert_eq!(client.ack(3).expect("it is answered"), 9);
        for position in [5, 6] {
            let notice = client.notice().expect("an event comes");
            assert_eq!(notice, Notice::CaughtUp(position));
        }
        let error = client.notice().expect_err("it is no valid event");
        assert!(matches!(error, ClientError::Protocol(_)), "{error}");
        third.join().expect("it does not panic");
    }
}

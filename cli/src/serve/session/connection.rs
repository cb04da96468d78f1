//! A connection, from the accept to the close: reads requests and writes replies in order.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use exitring_protocol::{Answer, Code, Decoded, Error, Request, decode};
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::dispatch::answer;
use super::line_socket::{LineSocket, Received};
use super::reply::{reply, send_error};
use super::state::{ClientHello, Session};
use super::subscription::{Source, Subscription};
use crate::serve::service::{Peer, Service};

/// How long a connection may stay without a hello.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refusal may take.
const REFUSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Serves a connection until it ends.
pub(crate) async fn serve(service: Arc<Service>, stream: UnixStream) {
    let peer = match stream.peer_cred() {
        Ok(cred) => Peer {
            uid: cred.uid(),
            gid: cred.gid(),
        },
        Err(error) => {
            tracing::warn!(%error, "a connection was closed: its user is unknown");
            return;
        }
    };
    let socket = Arc::new(LineSocket::new(stream));
    if let Err(error) = check_user(&service, peer) {
        let _ = send_error(&service, &socket, error).await;
    } else {
        let mut session = Session::new(Arc::clone(&service), peer);
        tokio::select! {
            // An I/O error means that the client is gone.
            _ = run(&mut session, &socket) => {}
            () = service.shutdown.cancelled() => {}
        }
    }
    service.closer.close_connection(peer.uid, socket).await;
}

/// Sends an error on a new connection, and closes it.
pub(crate) async fn refuse(service: &Service, stream: UnixStream, error: Error) {
    let uid = stream.peer_cred().map_or(u32::MAX, |cred| cred.uid());
    let socket = LineSocket::new(stream);
    // The line fits into the buffer of the new socket, so this does not wait.
    let sending = send_error(service, &socket, error);
    let _ = tokio::time::timeout(REFUSE_TIMEOUT, sending).await;
    service.closer.close_connection(uid, Arc::new(socket)).await;
}

/// Only a service of root serves other users.
fn check_user(service: &Service, peer: Peer) -> Result<(), Error> {
    match service.uid == 0 || peer.uid == service.uid || peer.uid == 0 {
        true => Ok(()),
        false => Err(Error::new(
            Code::OtherUser,
            format!(
                "this service runs as user {} and serves no other user; use a service that root runs",
                service.uid
            ),
        )),
    }
}

async fn run(session: &mut Session, socket: &Arc<LineSocket>) -> io::Result<()> {
    let service = Arc::clone(&session.service);
    let line_max = service.limits.line_bytes;
    let mut lines = socket.lines(line_max);
    let hello_deadline = Instant::now() + HELLO_TIMEOUT;
    let failed = session.failed.clone();
    loop {
        let received = tokio::select! {
            received = lines.next(&service.closer, session.peer.uid) => received?,
            () = failed.cancelled() => return Ok(()),
            // Checked only while no line has arrived.
            () = tokio::time::sleep_until(hello_deadline), if session.hello.is_none() => {
                let message = format!("no hello within {} seconds; closing the connection", HELLO_TIMEOUT.as_secs());
                let error = Error::new(Code::HelloFirst, message);
                return send_error(&service, socket, error).await;
            }
        };
        let line = match received {
            Received::Line(line) => line,
            Received::TooLong => {
                let message =
                    format!("the line has more than {line_max} bytes; closing the connection");
                let error = Error::new(Code::LineTooLong, message);
                return send_error(&service, socket, error).await;
            }
            Received::NotAPidfd(closed) => {
                let message = "a descriptor was sent that is no pidfd; closing the connection. Get a pidfd from pidfd_open or clone3";
                let error = Error::new(Code::NotAPidfd, message);
                let sent = send_error(&service, socket, error).await;
                // The connection keeps its permit until the descriptors are closed. That limits how
                // many of them a client can make the service hold.
                let _ = closed.await;
                return sent;
            }
            Received::End => return Ok(()),
        };
        // Blank lines are ignored.
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Decoded { id, request } = decode(&line);
        drop(line);
        let passed = match &request {
            Ok(Request::Watch(watch)) if watch.pid.is_none() => lines.take_pidfd(),
            _ => None,
        };
        let has_unused = lines.close_unused();
        let request = match request {
            Ok(Request::Watch(watch)) if watch.pid.is_some() && has_unused => {
                let message = "the request has both a pid and a pidfd; send only one of them";
                Err(Error::new(Code::BadRequest, message))
            }
            request => request,
        };
        let answer = match request {
            Ok(request) => {
                let kind = vec![("op".into(), request.op().into())];
                service.metrics.requests.get_or_create(&kind).inc();
                answer(session, request, passed).await
            }
            Err(error) => Err(error),
        };
        let subscribed = match &answer {
            Ok(Answer::Subscribed(from)) => Some(*from),
            _ => None,
        };
        socket.write(&reply(&service, id, answer)).await?;
        session.pending_reply.end();
        // After the reply, so that records come after it.
        if let Some(from) = subscribed {
            subscribe(session, socket, from);
        }
    }
}

fn subscribe(session: &mut Session, socket: &Arc<LineSocket>, from: u64) {
    let Some(ClientHello { scope, .. }) = &session.hello else {
        return;
    };
    let source = Source {
        service: Arc::clone(&session.service),
        socket: Arc::clone(socket),
        scope: scope.clone(),
        from,
        pending_reply: session.pending_reply.clone(),
    };
    session.subscription = Some(Subscription::start(source, session.failed.clone()));
}

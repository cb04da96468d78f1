//! One connection: its lines are answered one after the other, and what it has subscribed to is sent beside.

use std::sync::Arc;
use std::time::Duration;

use exitring_protocol::{
    Answer, Code, DEPTH_MAX, Decoded, Error, Hello, Request, RequestId, ServerLine, VERSION,
    Welcome, decode,
};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::service::{Service, Who};
use super::store::Scope;
use super::subscription::{Answering, send_records};
use super::watch::TAG_MAX;
use super::wire::{Line, Wire};
use super::{spawn, watch};

/// Bytes in a client's name.
const NAME_MAX: usize = 64;
/// How long a connection may be without a hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Session {
    service: Arc<Service>,
    who: Who,
    /// What hello said; `None`: it was not said yet.
    greeted: Option<Greeted>,
    subscription: Option<Subscription>,
    /// The subscription had to be ended, and the client knows.
    broken: CancellationToken,
    answering: Answering,
}

/// A task that sends records.
struct Subscription {
    stop: CancellationToken,
    sending: JoinHandle<()>,
}

struct Greeted {
    /// Empty: without a name.
    client: String,
    scope: Scope,
}

/// Serves a connection to its end.
pub(super) async fn serve(service: Arc<Service>, stream: UnixStream) {
    let who = match stream.peer_cred() {
        Ok(cred) => Who {
            uid: cred.uid(),
            gid: cred.gid(),
        },
        Err(error) => {
            tracing::warn!(%error, "a client that cannot be told who it is was turned away");
            return;
        }
    };
    let wire = Arc::new(Wire::new(stream));
    if let Err(error) = admit(&service, who) {
        let _ = turn_away(&service, &wire, error).await;
    } else {
        let mut session = Session {
            service: Arc::clone(&service),
            who,
            greeted: None,
            subscription: None,
            broken: CancellationToken::new(),
            answering: Answering::default(),
        };
        tokio::select! {
            // Who has gone needs no answer.
            _ = session.run(&wire) => {}
            () = service.ended.cancelled() => {}
        }
    }
    finish(&service, &wire).await;
}

/// Before the connection is closed: what waits in it is closed where that may take its time.
pub(super) async fn finish(service: &Service, wire: &Wire) {
    let foreign = wire.drain();
    if !foreign.is_empty() {
        let _ = service.closer.close(foreign).await;
    }
}

/// Sends the one line that says why, and no more.
pub(super) async fn turn_away(service: &Service, wire: &Wire, error: Error) -> std::io::Result<()> {
    count_refusal(service, error.code);
    wire.write(&text(&ServerLine::Error { id: None, error }))
        .await
}

/// Another user is served by root only.
fn admit(service: &Service, who: Who) -> Result<(), Error> {
    match service.uid == 0 || who.uid == service.uid || who.uid == 0 {
        true => Ok(()),
        false => Err(Error::new(
            Code::OtherUser,
            format!(
                "this service is run by the user {}, and serves no others; one run by root does",
                service.uid
            ),
        )),
    }
}

impl Session {
    async fn run(&mut self, wire: &Arc<Wire>) -> std::io::Result<()> {
        let service = Arc::clone(&self.service);
        let line_max = service.limits.line_bytes;
        let mut lines = wire.lines(line_max);
        let until = tokio::time::Instant::now() + HELLO_WITHIN;
        let broken = self.broken.clone();
        loop {
            let line = tokio::select! {
                line = lines.next(&service.closer) => line?,
                () = broken.cancelled() => return Ok(()),
                // Only who waits for nothing else is asked: what has come is read.
                () = tokio::time::sleep_until(until), if self.greeted.is_none() => {
                    let message = format!("no hello in {} seconds; the connection ends", HELLO_WITHIN.as_secs());
                    let error = Error::new(Code::HelloFirst, message);
                    return turn_away(&self.service, wire, error).await;
                }
            };
            let line = match line {
                Line::Whole(line) => line,
                Line::TooLong => {
                    let message =
                        format!("the line has more than {line_max} bytes; the connection ends");
                    let error = Error::new(Code::LineTooLong, message);
                    return turn_away(&self.service, wire, error).await;
                }
                Line::Foreign(closed) => {
                    let message = "a descriptor came that is no pidfd; the connection ends. Get one from pidfd_open or clone3";
                    let error = Error::new(Code::NotAPidfd, message);
                    let told = turn_away(&self.service, wire, error).await;
                    // The connection has its place until then, so that nobody has us hold ever more of them.
                    let _ = closed.await;
                    return told;
                }
                Line::End => return Ok(()),
            };
            // A blank line is no mistake.
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let Decoded { id, request } = decode(&line);
            drop(line);
            let passed = match &request {
                Ok(Request::Watch(watch)) if watch.pid.is_none() => lines.descriptor(),
                _ => None,
            };
            let untaken = lines.close_untaken();
            let request = match request {
                Ok(Request::Watch(watch)) if watch.pid.is_some() && untaken => {
                    let message = "both a pid and a pidfd; one of them is enough";
                    Err(Error::new(Code::BadRequest, message))
                }
                request => request,
            };
            let (answer, subscribed) = match request {
                Ok(request) => {
                    let kind = vec![("op".into(), request.op().into())];
                    self.service.metrics.requests.get_or_create(&kind).inc();
                    let answer = self.answer(request, passed).await;
                    let place = match &answer {
                        Ok(Answer::Subscribed(place)) => Some(*place),
                        _ => None,
                    };
                    (answer, place)
                }
                Err(error) => (Err(error), None),
            };
            wire.write(&self.line(id, answer)).await?;
            self.answering.end();
            // After the answer, so that events come after it.
            if let Some(from) = subscribed {
                self.subscribe(wire, from);
            }
        }
    }

    fn line(&self, id: Option<RequestId>, answer: Result<Answer, Error>) -> Vec<u8> {
        text(&match answer {
            Ok(answer) => ServerLine::Ok {
                id,
                ok: Box::new(answer),
            },
            Err(error) => {
                count_refusal(&self.service, error.code);
                ServerLine::Error { id, error }
            }
        })
    }

    async fn answer(
        &mut self,
        request: Request,
        passed: Option<std::os::fd::OwnedFd>,
    ) -> Result<Answer, Error> {
        let service = Arc::clone(&self.service);
        if let Request::Hello(hello) = request {
            return self.hello(hello).await.map(Answer::Hello);
        }
        let Some(Greeted { client, scope }) = &self.greeted else {
            let message = "say hello first, as in {\"op\": \"hello\", \"version\": 1}";
            return Err(Error::new(Code::HelloFirst, message));
        };
        let who = self.who;
        match request {
            Request::Hello(_) => unreachable!("answered above"),
            Request::Watch(request) => {
                let _work = service.work().await?;
                watch::watch(
                    &service,
                    who,
                    client.clone(),
                    request,
                    passed,
                    &self.answering,
                )
                .await
                .map(Answer::Watched)
            }
            Request::Spawn(request) => {
                let _work = service.work().await?;
                spawn::spawn(&service, who, client.clone(), request, &self.answering)
                    .await
                    .map(Answer::Watched)
            }
            Request::Unwatch(request) => {
                let _work = service.work().await?;
                self.unwatch(request.watch, scope).await
            }
            Request::Signal(request) => {
                let live = service.registry.get(request.watch, scope)?;
                service.signal(&live.birth, who.uid, request.signal, request.group)?;
                Ok(Answer::Signaled(request.watch))
            }
            Request::List(request) => Ok(Answer::Live(service.registry.list(request, scope))),
            Request::Subscribe(request) => {
                if let Some(before) = self.subscription.take() {
                    before.end().await;
                }
                let complete = *service.committed.borrow();
                // What is beyond the end begins at the end: after a power failure the log may be shorter than a client knows.
                Ok(Answer::Subscribed(request.from.clamp(1, complete + 1)))
            }
            Request::Ack(request) => {
                let _work = service.work().await?;
                let own = Scope {
                    uid: Some(who.uid),
                    ..scope.clone()
                };
                // What is not told of yet cannot be acknowledged.
                let upto = request.upto.min(*service.committed.borrow());
                service.store.ack(own, upto).await.map(Answer::Acked)
            }
            Request::Stats(_) => Ok(Answer::Stats(Box::new(service.counts()))),
            Request::Metrics(_) => Ok(Answer::Metrics(service.metrics_text())),
        }
    }

    async fn hello(&mut self, hello: Hello) -> Result<Welcome, Error> {
        if hello.version != VERSION {
            let message = format!(
                "this service speaks version {VERSION} of the protocol, and not {}",
                hello.version
            );
            return Err(Error::new(Code::Version, message));
        }
        let client = hello.client.filter(|client| !client.is_empty());
        if let Some(client) = &client
            && client.len() > NAME_MAX.min(TAG_MAX)
        {
            let message = format!(
                "the client's name has {} bytes, and may have {NAME_MAX}",
                client.len()
            );
            return Err(Error::new(Code::OutOfRange, message));
        }
        // Another name is another scope.
        if let Some(before) = self.subscription.take() {
            before.end().await;
        }
        self.greeted = Some(Greeted {
            scope: Service::scope(self.who, client.as_deref()),
            client: client.unwrap_or_default(),
        });
        debug_assert_eq!(self.service.limits.depth, DEPTH_MAX);
        Ok(Welcome {
            version: VERSION,
            service: env!("CARGO_PKG_VERSION").into(),
            instance: self.service.instance.clone(),
            uid: self.who.uid,
            limits: self.service.limits,
        })
    }

    async fn unwatch(&self, id: u64, scope: &Scope) -> Result<Answer, Error> {
        let live = self.service.registry.get(id, scope)?;
        if live.birth.spawned {
            let message =
                "what the service has started is always recorded; signal it, or let it end";
            return Err(Error::new(Code::Denied, message));
        }
        let was_there = self.service.store.forget(id).await?;
        self.service.registry.remove(id);
        live.let_go();
        match was_there {
            true => Ok(Answer::Unwatched(id)),
            // Its record came first.
            false => Err(Error::new(
                Code::NoSuchWatch,
                format!("watch {id} has just ended"),
            )),
        }
    }

    fn subscribe(&mut self, wire: &Arc<Wire>, from: u64) {
        let Some(Greeted { scope, .. }) = &self.greeted else {
            return;
        };
        let (service, wire, scope) = (Arc::clone(&self.service), Arc::clone(wire), scope.clone());
        let stop = CancellationToken::new();
        let (stopped, broken) = (stop.clone(), self.broken.clone());
        let answering = self.answering.clone();
        let sending = tokio::spawn(async move {
            // The client's end is seen by who reads.
            if let Ok(Err(error)) =
                send_records(&service, &wire, &scope, from, &stopped, &answering).await
            {
                let _ = turn_away(&service, &wire, error).await;
                broken.cancel();
            }
        });
        self.subscription = Some(Subscription { stop, sending });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The connection is over: half a line is of no consequence.
        if let Some(subscription) = self.subscription.take() {
            subscription.sending.abort();
        }
    }
}

impl Subscription {
    /// Ends it between two lines, so that nothing of it comes after the next answer.
    async fn end(self) {
        self.stop.cancel();
        // A panic of it was shown by the panic hook.
        let _ = self.sending.await;
    }
}

fn count_refusal(service: &Service, code: Code) {
    let code = serde_json::to_value(code).ok();
    let code = code
        .as_ref()
        .and_then(|code| code.as_str())
        .unwrap_or("other");
    let code = vec![("code".into(), code.into())];
    service.metrics.refused.get_or_create(&code).inc();
}

pub(super) fn text(line: &ServerLine) -> Vec<u8> {
    let mut text =
        serde_json::to_vec(line).expect("a line has no maps with keys that are no texts");
    text.push(b'\n');
    text
}

//! Calls the handler of each request.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use exitring_protocol::{Answer, Code, DEPTH_MAX, Error, Hello, Request, VERSION, Welcome};

use super::state::{ClientHello, Session};
use crate::serve::requests::{TAG_MAX, spawn, watch};
use crate::serve::watches::Scope;

/// Bytes in a client's name.
const NAME_MAX: usize = 64;

/// Answers a request. `passed`: the pidfd that came with it.
pub(super) async fn answer(
    session: &mut Session,
    request: Request,
    passed: Option<OwnedFd>,
) -> Result<Answer, Error> {
    let service = Arc::clone(&session.service);
    if let Request::Hello(hello) = request {
        return answer_hello(session, hello).await.map(Answer::Hello);
    }
    let Some(ClientHello { client, scope }) = &session.hello else {
        let message = "the first request must be hello, as in {\"op\": \"hello\", \"version\": 1}";
        return Err(Error::new(Code::HelloFirst, message));
    };
    let peer = session.peer;
    match request {
        Request::Hello(_) => unreachable!("answered above"),
        Request::Watch(request) => {
            let _request = service.begin_request().await?;
            let client = client.clone();
            let reply = &session.pending_reply;
            watch(&service, peer, client, request, passed, reply)
                .await
                .map(Answer::Watched)
        }
        Request::Spawn(request) => {
            let client = client.clone();
            spawn::spawn(&service, peer, client, *request, &session.pending_reply)
                .await
                .map(Answer::Watched)
        }
        Request::Unwatch(request) => {
            let _request = service.begin_request().await?;
            unwatch(session, request.watch, scope).await
        }
        Request::Signal(request) => {
            let live = service.registry.get(request.watch, scope)?;
            service.signal(&live.info, peer.uid, request.signal, request.group)?;
            Ok(Answer::Signaled(request.watch))
        }
        Request::List(request) => Ok(Answer::Live(service.registry.list(request, scope))),
        Request::Subscribe(request) => {
            session.unsubscribe().await;
            let last = *service.committed.borrow();
            // A number past the end means the end: after a power failure the log may be shorter
            // than a client expects.
            Ok(Answer::Subscribed(request.from.clamp(1, last + 1)))
        }
        Request::Ack(request) => {
            let _request = service.begin_request().await?;
            let own = Scope {
                uid: Some(peer.uid),
                ..scope.clone()
            };
            // A record that is not published yet cannot be acknowledged.
            let upto = request.upto.min(*service.committed.borrow());
            service.store.ack(own, upto).await.map(Answer::Acked)
        }
        Request::Stats(_) => Ok(Answer::Stats(Box::new(service.counts()))),
        Request::Metrics(_) => Ok(Answer::Metrics(service.metrics_text())),
    }
}

async fn answer_hello(session: &mut Session, hello: Hello) -> Result<Welcome, Error> {
    if hello.version != VERSION {
        let message = format!(
            "this service supports version {VERSION} of the protocol, but the client asked for {}",
            hello.version
        );
        return Err(Error::new(Code::Version, message));
    }
    let client = hello.client.filter(|client| !client.is_empty());
    if let Some(client) = &client
        && client.len() > NAME_MAX.min(TAG_MAX)
    {
        let message = format!(
            "the client's name has {} bytes; the limit is {NAME_MAX}",
            client.len()
        );
        return Err(Error::new(Code::OutOfRange, message));
    }
    // Another name means another scope.
    session.unsubscribe().await;
    session.hello = Some(ClientHello {
        scope: session.peer.scope(client.as_deref()),
        client: client.unwrap_or_default(),
    });
    debug_assert_eq!(session.service.limits.depth, DEPTH_MAX);
    Ok(Welcome {
        version: VERSION,
        service: env!("CARGO_PKG_VERSION").into(),
        instance: session.service.instance.clone(),
        uid: session.peer.uid,
        limits: session.service.limits,
    })
}

async fn unwatch(session: &Session, id: u64, scope: &Scope) -> Result<Answer, Error> {
    let service = &session.service;
    let live = service.registry.get(id, scope)?;
    if live.info.spawned {
        let message =
            "a process that the service has started is always recorded; signal it, or let it end";
        return Err(Error::new(Code::Denied, message));
    }
    let existed = service.store.forget(id).await?;
    service.registry.remove(id);
    live.cancel();
    match existed {
        true => Ok(Answer::Unwatched(id)),
        // Its record came first.
        false => Err(Error::new(
            Code::NoSuchWatch,
            format!("watch {id} has just ended"),
        )),
    }
}

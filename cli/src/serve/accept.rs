//! The main loop: accepts connections, handles signals, and keeps the socket in place.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use exitring_protocol::{Code, Error};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::http;
use super::lifecycle::listener::Listener;
use super::lifecycle::signals::{SignalRequest, Signals};
use super::lifecycle::{reexec, systemd, zombies};
use super::options::ServeOptions;
use super::service::{Service, timeouts};
use super::session;

/// How often the socket file is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the times of the lock file are updated. Cleaners delete files after days.
const TOUCH_INTERVAL: Duration = Duration::from_secs(3600);
/// How long connections may take to close at the end.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Why the service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A signal stops it.
    Stop,
    /// A signal asks it to execute itself again, in place.
    Reexec,
    /// The state was deleted, so the service can keep no promise.
    StateLost,
}

/// Accepts connections until the service has to end, and then lets pending requests finish.
pub(super) async fn serve(
    service: Arc<Service>,
    options: ServeOptions,
    mut listener: Listener,
    stored_pidfds: Vec<u64>,
) -> Result<(End, Listener)> {
    let _stop_spawner = service.spawner.stop_on_drop();
    let mut signals = Signals::install()?;
    if let Some(address) = options.metrics {
        let scrapers = http::listen(address).await?;
        tokio::spawn(http::serve(Arc::clone(&service), scrapers));
    }
    let timeouts = tokio::spawn(timeouts::run(Arc::clone(&service)));
    tokio::spawn(zombies::run(Arc::clone(&service)));

    let mut socket = async_socket(&listener)?;
    let permits = Arc::new(Semaphore::new(service.limits.clients));
    // After the socket is bound: a client that connects from now on is served.
    tokio::spawn(systemd::run(Arc::clone(&service), stored_pidfds));
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut touch = tokio::time::interval(TOUCH_INTERVAL);
    let mut has_failed = false;
    let end = loop {
        tokio::select! {
            stream = socket.accept() => accept(&service, &permits, stream).await,
            request = signals.next() => match request {
                SignalRequest::Stop => break End::Stop,
                SignalRequest::Reexec => match reexec::check_program() {
                    // Without the state, the next image would not know its children.
                    Ok(()) if service.store.is_lost().await => break End::StateLost,
                    // The exec would wait for that, and meanwhile nothing would be served.
                    Ok(()) if !service.closer.is_closed_within(CLOSE_TIMEOUT).await => tracing::error!(
                        "the service cannot execute itself again; it keeps running: {}", service.closer.stuck().unwrap_or_default()
                    ),
                    Ok(()) => break End::Reexec,
                    Err(error) => tracing::error!(%error, "the service cannot execute itself again; it keeps running"),
                },
            },
            () = service.store.lost() => break End::StateLost,
            // Looking up a file takes no time, and this task has no other work.
            _ = check.tick() => {
                listener.keep_lock();
                if !listener.is_missing() {
                    continue;
                }
                // Accepts the connections that wait in the old socket before it is closed.
                for _ in 0..options.clients {
                    let waiting = tokio::time::timeout(Duration::ZERO, socket.accept());
                    let Ok(stream) = waiting.await else { break };
                    accept(&service, &permits, stream).await;
                }
                let created;
                (listener, created) = recreate(listener).await?;
                match created {
                    Ok(()) => {
                        socket = async_socket(&listener)?;
                        tracing::warn!(socket = %options.socket.display(), "the socket was deleted or replaced, and has been created again");
                    }
                    Err(error) if !has_failed => tracing::error!(
                        error = format!("{error:#}"),
                        "the socket was deleted or replaced, and cannot be created again yet; retrying"
                    ),
                    Err(_) => {}
                }
                has_failed = listener.is_missing();
            },
            _ = touch.tick() => listener.touch(),
        }
    };
    tracing::info!(?end, "stopping");
    if end != End::Reexec {
        systemd::stopping();
    }
    // Waits for pending requests. Later ones are refused.
    *service.accepting.write().await = false;
    tokio::time::sleep(Duration::from_millis(1)).await;
    service.shutdown.cancel();
    // All permits are back when all connections are closed.
    let closed = permits.acquire_many(options.clients);
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
    // The time of each SIGTERM that was sent is in the writer's queue.
    timeouts.await.context("the task of the timeouts")?;
    Ok((end, listener))
}

fn async_socket(listener: &Listener) -> Result<UnixListener> {
    let socket = listener.socket.try_clone();
    let socket = socket.context("preparing the socket")?;
    socket
        .set_nonblocking(true)
        .context("preparing the socket")?;
    UnixListener::from_std(socket).context("preparing the socket")
}

/// On another thread: checking whether another process listens there may take a second.
async fn recreate(mut listener: Listener) -> Result<(Listener, Result<()>)> {
    let creating = tokio::task::spawn_blocking(move || {
        let created = listener.recreate();
        (listener, created)
    });
    creating.await.context("creating the socket again")
}

/// Serves a connection, or refuses it.
async fn accept(
    service: &Arc<Service>,
    permits: &Arc<Semaphore>,
    stream: io::Result<(UnixStream, SocketAddr)>,
) {
    let stream = match stream {
        Ok((stream, _)) => stream,
        Err(error) => {
            // For example no free descriptors: the connection waits until there are some.
            tracing::warn!(%error, "a connection cannot be accepted yet");
            return tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let service = Arc::clone(service);
    match acquire_permits(&service, permits, &stream) {
        Ok(permits) => {
            service.metrics.clients.inc();
            tokio::spawn(async move {
                session::serve(Arc::clone(&service), stream).await;
                service.metrics.clients.dec();
                drop(permits);
            });
        }
        Err(error) => session::refuse(&service, stream, error).await,
    }
}

/// The permits for a connection: one of its user, and one of the service.
fn acquire_permits(
    service: &Service,
    permits: &Arc<Semaphore>,
    stream: &UnixStream,
) -> Result<[OwnedSemaphorePermit; 2], Error> {
    let refuse = |whose: &str, clients: usize| {
        let message =
            format!("{clients} clients{whose} are connected, the limit; close some of them");
        Error::new(Code::TooManyClients, message)
    };
    // The session closes a connection whose user is unknown.
    let uid = stream.peer_cred().map_or(u32::MAX, |cred| cred.uid());
    let quota = service.client_quotas.semaphore(uid).try_acquire_owned();
    let quota = quota.map_err(|_| refuse(" of this user", service.client_quotas.limit(uid)))?;
    let permit = Arc::clone(permits).try_acquire_owned();
    let permit = permit.map_err(|_| refuse("", service.limits.clients))?;
    Ok([quota, permit])
}

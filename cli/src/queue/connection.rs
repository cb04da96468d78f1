//! The connection with the server, and requests to its JetStream API.
//!
//! Requests are JSON and only have the fields that a queue needs, so all servers from 2.9 on
//! understand them.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{ContextBuilder, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context, response::Response};
use async_nats::{Client, ConnectErrorKind, Event, RequestErrorKind, ServerError};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::access::Access;
use super::address::Address;
use super::error::QueueError;
use super::options::ServerOptions;
use crate::failure::chain;

/// How long the server has for an answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer, for each server but the first one.
const CONNECT_TIMEOUT_MORE: Duration = ANSWER_TIMEOUT;
/// How long a request is repeated that has no other limit.
pub(super) const SERVER_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause before a request is repeated.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between attempts to connect again.
pub(super) const RECONNECT_MAX: Duration = Duration::from_secs(4);
/// The most publications whose confirmation is awaited.
const INFLIGHT_MAX: usize = 16 * 1024;

/// `JSStreamWrongLastSequenceConstantErr`: in a cluster, another conditional message of the subject is on
/// its way.
const OTHER_FIRST: u64 = 10164;

/// The state of the connection. Connections are counted, because a short interruption loses what
/// the server was about to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) up: bool,
    pub(super) connections: u64,
}

/// A connected client.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) context: Context,
    /// The name of the run.
    pub(super) run: String,
    /// The servers, for messages.
    pub(super) server: String,
    pub(super) link: watch::Receiver<Link>,
    /// The last permission that the server has denied.
    denied: watch::Receiver<String>,
}

/// A runtime on the calling thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, QueueError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| QueueError::System {
            what: "start the runtime of the queue",
            error,
        })
}

/// Runs a subcommand that needs a connection. Signals keep their default effect: Ctrl-C ends the
/// process at any time.
pub(super) fn with_connection<T>(
    options: &ServerOptions,
    work: impl AsyncFnOnce(&Connection) -> Result<T, crate::failure::Failure>,
) -> Result<T, crate::failure::Failure> {
    let address = Address::parse(&options.queue)?;
    let access = Access::read(&address, &options.login)?;
    runtime()?.block_on(async {
        let connection = Connection::open(&address, &access).await?;
        work(&connection).await
    })
}

impl Connection {
    pub(super) async fn open(address: &Address, access: &Access) -> Result<Self, QueueError> {
        let (link_sender, mut link) = watch::channel(Link::default());
        let (denied_sender, denied) = watch::channel(String::new());
        let senders = Arc::new((link_sender, denied_sender));
        let options = access
            .connect_options()?
            .require_tls(address.tls)
            .name("exitring")
            .connection_timeout(ANSWER_TIMEOUT)
            .request_timeout(Some(ANSWER_TIMEOUT))
            .ping_interval(Duration::from_secs(10))
            .subscription_capacity(64 * 1024)
            .reconnect_delay_callback(|attempts| {
                // Before the first attempt as well.
                let Some(failed) = attempts.checked_sub(2) else {
                    return Duration::ZERO;
                };
                let exponent = u32::try_from(failed).unwrap_or(u32::MAX);
                let factor = 2_u32.checked_pow(exponent).unwrap_or(u32::MAX);
                let delay = Duration::from_millis(50).saturating_mul(factor);
                delay.min(RECONNECT_MAX)
            })
            .event_callback(move |event| {
                let senders = Arc::clone(&senders);
                async move {
                    let (link, denied) = &*senders;
                    match event {
                        Event::Connected => link.send_modify(|link| {
                            link.up = true;
                            link.connections += 1;
                        }),
                        Event::Disconnected | Event::Closed => {
                            link.send_modify(|link| link.up = false);
                        }
                        Event::ServerError(ServerError::Other(text))
                            if text.to_lowercase().contains("permissions violation") =>
                        {
                            denied.send_replace(text);
                        }
                        _ => {}
                    }
                }
            });
        // The servers are tried one after the other.
        let more = u32::try_from(address.servers.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let limit = CONNECT_TIMEOUT.saturating_add(CONNECT_TIMEOUT_MORE.saturating_mul(more));
        let connect = options.connect(address.servers.clone());
        let server = address.shown();
        let client = match timeout(limit, connect).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                let refused = [
                    ConnectErrorKind::Authentication,
                    ConnectErrorKind::AuthorizationViolation,
                ];
                return Err(match refused.contains(&error.kind()) {
                    true => QueueError::Login { server },
                    false => QueueError::Connect {
                        server,
                        reason: chain(&error),
                    },
                });
            }
            Err(_) => {
                let reason = "it does not answer".into();
                return Err(QueueError::Connect { server, reason });
            }
        };
        // The event comes a moment after the connection.
        let _ = timeout(ANSWER_TIMEOUT, link.wait_for(|link| link.up)).await;
        let context = ContextBuilder::new()
            .timeout(ANSWER_TIMEOUT)
            .max_ack_inflight(INFLIGHT_MAX)
            .build(client.clone());
        Ok(Self {
            client,
            context,
            run: address.run.clone(),
            server,
            link,
            denied,
        })
    }

    /// The result of a request, or the permission that the server denies meanwhile: it does not
    /// answer such a request.
    pub(super) async fn unless_denied<T>(
        &self,
        request: impl Future<Output = Result<T, QueueError>>,
    ) -> Result<T, QueueError> {
        let mut denied = self.denied.clone();
        denied.mark_unchanged();
        tokio::select! {
            biased;
            result = request => result,
            Ok(()) = denied.changed() => Err(QueueError::Denied(denied.borrow().clone())),
        }
    }

    /// The last permission that the server has denied, also to what was published.
    pub(super) fn denied(&self) -> Option<String> {
        let denied = self.denied.borrow();
        (!denied.is_empty()).then(|| denied.clone())
    }

    /// A request to the JetStream API. The inner error is the server's.
    pub(super) async fn api<T: DeserializeOwned>(
        &self,
        what: &'static str,
        subject: &str,
        payload: Bytes,
    ) -> Result<Result<T, jetstream::Error>, QueueError> {
        self.unless_denied(async {
            let refused = |reason: String| QueueError::Refused { what, reason };
            let answer = self
                .client
                .request(format!("$JS.API.{subject}"), payload)
                .await;
            let answer = answer.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => self.no_jetstream("no service answers"),
                RequestErrorKind::TimedOut => QueueError::NoAnswer { what },
                _ => refused(chain(&error)),
            })?;
            match serde_json::from_slice(&answer.payload) {
                Ok(Response::Ok(answer)) => Ok(Ok(answer)),
                Ok(Response::Err { error }) => Ok(Err(error)),
                Err(error) => Err(refused(error.to_string())),
            }
        })
        .await
    }

    /// The same, where the server's errors have no special meaning.
    pub(super) async fn api_ok<T: DeserializeOwned>(
        &self,
        what: &'static str,
        subject: &str,
        payload: Bytes,
    ) -> Result<T, QueueError> {
        let answer = self.api(what, subject, payload).await?;
        answer.map_err(|error| self.refused(what, &error))
    }

    /// An error of the server.
    pub(super) fn refused(&self, what: &'static str, error: &jetstream::Error) -> QueueError {
        use async_nats::jetstream::ErrorCode as Code;
        match error.error_code() {
            _ if is_unavailable(error) => QueueError::NoLeader {
                what,
                reason: error.to_string(),
            },
            Code::STREAM_NOT_FOUND | Code::CONSUMER_NOT_FOUND => QueueError::NoRun {
                run: self.run.clone(),
                server: self.server.clone(),
            },
            Code::JETSTREAM_NOT_ENABLED | Code::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                self.no_jetstream(&error.to_string())
            }
            _ => QueueError::Refused {
                what,
                reason: error.to_string(),
            },
        }
    }

    /// Publishes a message that expects a sequence before it, unless another process was first.
    pub(super) async fn publish_first(
        &self,
        what: &'static str,
        subject: String,
        message: PublishMessage,
    ) -> Result<(), QueueError> {
        self.unless_denied(async {
            let published = match self.context.send_publish(subject, message).await {
                Ok(confirmation) => confirmation.await,
                Err(error) => Err(error),
            };
            let Err(error) = published else {
                return Ok(());
            };
            match (error.kind(), server_error(&error)) {
                (PublishErrorKind::WrongLastSequence, _) => Ok(()),
                (_, Some(cause)) if cause.error_code().0 == OTHER_FIRST => Ok(()),
                (_, Some(cause)) => Err(self.refused(what, cause)),
                (PublishErrorKind::TimedOut, None) => Err(QueueError::NoAnswer { what }),
                (_, None) => Err(QueueError::Refused {
                    what,
                    reason: chain(&error),
                }),
            }
        })
        .await
    }

    fn no_jetstream(&self, reason: &str) -> QueueError {
        QueueError::NoJetStream {
            server: self.server.clone(),
            reason: reason.into(),
        }
    }

    /// The id of the server, which is another one after each start.
    pub(super) fn server_id(&self) -> String {
        self.client.server_info().server_id
    }

    /// The same, unless another server may have the streams.
    pub(super) fn single_server(&self) -> Option<String> {
        let info = self.client.server_info();
        (info.jetstream && info.cluster.is_none()).then_some(info.server_id)
    }
}

/// Whether an error of the server passes: a cluster without a leader elects one.
pub(super) fn is_unavailable(error: &jetstream::Error) -> bool {
    use async_nats::jetstream::ErrorCode as Code;
    [Code::CLUSTER_NOT_AVAILABLE, Code::CLUSTER_NOT_LEADER].contains(&error.error_code())
}

/// The result of a request, which is repeated for some time after such an error.
pub(super) async fn with_retries<T>(
    limit: Duration,
    is_repeated: impl Fn(&QueueError) -> bool,
    mut request: impl AsyncFnMut() -> Result<T, QueueError>,
) -> Result<T, QueueError> {
    let deadline = Instant::now() + limit;
    loop {
        match request().await {
            Err(error) if is_repeated(&error) && Instant::now() < deadline => {
                sleep(RETRY_PAUSE).await;
            }
            result => return result,
        }
    }
}

/// Whether an error is one of the server's, which it gives again for the same message.
pub(super) fn server_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a jetstream::Error> {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

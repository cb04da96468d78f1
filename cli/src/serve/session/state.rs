//! What a session remembers between two requests.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::subscription::Subscription;
use crate::serve::requests::PendingReply;
use crate::serve::service::{Peer, Service};
use crate::serve::watches::Scope;

pub(super) struct Session {
    pub(super) service: Arc<Service>,
    pub(super) peer: Peer,
    /// The client's hello, once it has come.
    pub(super) hello: Option<ClientHello>,
    pub(super) subscription: Option<Subscription>,
    /// Cancelled when the subscription has failed, and the client has been sent the error.
    pub(super) failed: CancellationToken,
    pub(super) pending_reply: PendingReply,
}

pub(super) struct ClientHello {
    /// Empty if the client has no name.
    pub(super) client: String,
    pub(super) scope: Scope,
}

impl Session {
    pub(super) fn new(service: Arc<Service>, peer: Peer) -> Self {
        Self {
            service,
            peer,
            hello: None,
            subscription: None,
            failed: CancellationToken::new(),
            pending_reply: PendingReply::default(),
        }
    }

    /// Ends the subscription, if there is one.
    pub(super) async fn unsubscribe(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            subscription.end().await;
        }
    }
}

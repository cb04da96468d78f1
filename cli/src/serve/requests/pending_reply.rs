//! Keeps the order of a reply and the records that follow from its request.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether a reply is pending to a request whose process may have ended already. A subscription on
/// the same connection sends records only after the reply.
#[derive(Clone, Default)]
pub(crate) struct PendingReply(Arc<watch::Sender<bool>>);

impl PendingReply {
    /// To be called before the process can be seen to end.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    /// To be called when the reply is sent.
    pub(crate) fn end(&self) {
        self.0.send_replace(false);
    }

    /// Waits until no reply is pending. To be called after records were read, before they are sent.
    pub(crate) async fn sent(&self) {
        // This does not fail: the sender is in `self`.
        let _ = self.0.subscribe().wait_for(|pending| !pending).await;
    }
}

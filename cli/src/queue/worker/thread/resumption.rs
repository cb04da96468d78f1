//! After a new connection: what the server still knows.
//!
//! A server writes the state of a consumer a moment after it has changed, so one that was killed has
//! forgotten the last deliveries and acknowledgements. It delivers these jobs again, as if for the
//! first time. So the jobs that wait here may be another worker's by now: they are dropped, and come
//! again. Jobs that run go on, and may run twice. Of jobs that are done the record is found.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Thread;
use crate::queue::connection::RECONNECT_MAX;
use crate::queue::error::QueueError;

/// The pause until the server is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// What the server says after a connection.
pub(super) struct Resumed {
    server_id: String,
}

impl Thread {
    /// Holds up starts until it is known whether the server has restarted.
    pub(super) fn resume(&mut self) {
        // A request of an earlier connection says nothing.
        self.resumption.clear();
        let shared = Rc::clone(&self.parts.shared);
        self.resumption.push(Box::pin(async move {
            let connection = &shared.connection;
            loop {
                shared.connected().await;
                match connection.consumer_state(&shared.id).await {
                    // It has just started.
                    Err(QueueError::NoAnswer { .. } | QueueError::NoJetStream { .. }) => {
                        sleep(PAUSE).await;
                    }
                    // The next check reports an error.
                    _ => break,
                }
            }
            Resumed {
                // It is that of the connection on which the answer came.
                server_id: connection.server_id(),
            }
        }));
        self.pause_or_go_on();
    }

    pub(super) fn resumed(&mut self, resumed: Resumed) {
        if resumed.server_id != self.server_id {
            self.server_id = resumed.server_id;
            self.restarts += 1;
            self.void_before = self.pulls.generation();
            self.parts.looks_up_all = true;
            for held in self.held.values_mut() {
                held.doubtful = true;
            }
            self.parts.admission.drop_unstarted();
            // First the other workers store what has ended meanwhile, so that it is not run again.
            // They connect within the time of the outage, because their pauses double at most.
            let pause = self.outage.min(RECONNECT_MAX) + PAUSE;
            self.next_request = Instant::now() + pause;
        }
        self.pause_or_go_on();
        self.renew();
    }
}

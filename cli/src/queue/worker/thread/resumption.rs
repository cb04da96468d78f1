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

/// The pause until the server is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// What the server says after a connection.
pub(super) struct Resumed {
    server_id: String,
    /// How often the consumer was recreated.
    recreations: u64,
}

impl Thread {
    /// Holds up starts until it is known whether the server has restarted, and which consumer has the
    /// jobs.
    pub(super) fn resume(&mut self) {
        // A request of an earlier connection says nothing.
        self.resumption.clear();
        let shared = Rc::clone(&self.parts.shared);
        let before = self.parts.recreations;
        self.resumption.push(Box::pin(async move {
            let connection = &shared.connection;
            let recreations = loop {
                shared.connected().await;
                let state = async {
                    connection.consumer_state(&shared.id).await?;
                    connection.recreations().await
                };
                match state.await {
                    Ok(recreations) => break recreations,
                    // It has just started.
                    Err(error) if error.is_passing() => sleep(PAUSE).await,
                    // The next check reports it.
                    Err(_) => break before,
                }
            };
            Resumed {
                // It is that of the connection on which the answer came.
                server_id: connection.server_id(),
                recreations,
            }
        }));
        self.pause_or_go_on();
    }

    pub(super) fn resumed(&mut self, resumed: Resumed) {
        let recreated = resumed.recreations != self.parts.recreations;
        if recreated {
            self.parts.recreations = resumed.recreations;
            let names = &self.parts.shared.names;
            let consumer = names.consumer(&self.parts.shared.id, resumed.recreations);
            self.pulls.change_consumer(names, &consumer);
        }
        if recreated || resumed.server_id != self.server_id {
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

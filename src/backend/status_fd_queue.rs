//! The queue of ended watches that need a descriptor to read the process's status.
//!
//! The queue holds only the state; `status_requests` processes it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::sync::shrink::ShrinkIfSparse;
use crate::types::exit::{Outcome, Usage};

/// The most descriptors open at a time for reading statuses.
const IN_FLIGHT_MAX: usize = 16;
/// How long a watch stays queued while no watch gets a descriptor.
pub(super) const STARVATION_MAX: Duration = Duration::from_millis(500);

/// An ended watch in the queue.
#[derive(Clone, Copy)]
pub(super) struct StatusRequest {
    pub(super) key: u32,
    pub(super) queued_at: Instant,
}

pub(super) struct StatusFdQueue {
    pub(super) queue: VecDeque<StatusRequest>,
    /// Requests that the kernel has not answered, and when each watch was queued.
    pub(super) in_flight: HashMap<u32, Instant>,
    /// Requests that were refused and are not in the queue again yet.
    pub(super) refused: Vec<StatusRequest>,
    /// How many descriptors may be requested at a time: one after a refusal, and one more after
    /// each success.
    pub(super) in_flight_max: usize,
    /// Until when the queue is paused because no descriptor was available, and the errno of that.
    pub(super) paused: Option<(Instant, i32)>,
    /// Since when no descriptor was available. A watch that waits in a long queue while others get
    /// descriptors does not time out.
    pub(super) starved_since: Option<Instant>,
    /// How many watches at the head of the queue were already checked in this pause for whether
    /// they need a descriptor.
    pub(super) checked: usize,
    /// Statuses that were read by pid, and whose process is being confirmed.
    pub(super) unconfirmed: HashMap<u32, (StatusRequest, Outcome, Option<Usage>)>,
}

impl StatusFdQueue {
    pub(super) fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            in_flight: HashMap::new(),
            refused: Vec::new(),
            in_flight_max: IN_FLIGHT_MAX,
            paused: None,
            starved_since: None,
            checked: 0,
            unconfirmed: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, key: u32) {
        let queued_at = Instant::now();
        self.queue.push_back(StatusRequest { key, queued_at });
    }

    /// Whether no ended watch waits for a descriptor.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty()
            && self.in_flight.is_empty()
            && self.refused.is_empty()
            && self.unconfirmed.is_empty()
    }

    /// Whether the queue can be processed now.
    pub(super) fn has_ready(&self) -> bool {
        match self.paused {
            None => !self.queue.is_empty(),
            Some(_) => self.checked < self.queue.len(),
        }
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.paused.map(|(until, _)| until)
    }

    pub(super) fn resume_if_due(&mut self, now: Instant) {
        if self.paused.is_some_and(|(until, _)| until <= now) {
            self.paused = None;
            self.checked = 0;
        }
    }

    /// Returns refused requests to the head of the queue, in their order.
    pub(super) fn requeue_refused(&mut self) {
        while let Some(request) = self.refused.pop() {
            self.queue.push_front(request);
        }
    }

    pub(super) fn shrink(&mut self) {
        self.queue.shrink_if_sparse();
        self.unconfirmed.shrink_if_sparse();
    }

    pub(super) fn descriptor_opened(&mut self) {
        self.starved_since = None;
        self.in_flight_max = (self.in_flight_max + 1).min(IN_FLIGHT_MAX);
    }
}

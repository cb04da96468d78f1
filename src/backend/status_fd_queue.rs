//! The queue.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::sync::shrink::ShrinkIfSparse;
use crate::types::exit::{Outcome, Usage};

/// Descriptors open at a time for reading statuses.
const IN_FLIGHT_MAX: usize = 16;
/// So long a watch waits in queue while there is no descriptor for anyone in it.
pub(super) const STARVATION_MAX: Duration = Duration::from_millis(500);

/// A place in queue.
#[derive(Clone, Copy)]
pub(super) struct StatusRequest {
    pub(super) key: u32,
    pub(super) queued_at: Instant,
}

pub(super) struct StatusFdQueue {
    pub(super) queue: VecDeque<StatusRequest>,
    /// Asked of the kernel, which has not answered.
    pub(super) in_flight: HashMap<u32, Instant>,
    /// Asked in vain, and not back in queue yet.
    pub(super) refused: Vec<StatusRequest>,
    /// How many may be in_flight for at a time: one after a refusal, and then one more each time.
    pub(super) in_flight_max: usize,
    /// Nothing is in_flight for before: there was no descriptor, for this errno.
    pub(super) paused: Option<(Instant, i32)>,
    /// Since when none was to be had. One who waits in a long queue while some are is not given up.
    pub(super) starved_since: Option<Instant>,
    /// Of the queue, so many were looked at in this paused whether they need a descriptor.
    pub(super) checked: usize,
    /// Statuses unconfirmed by pid, whose identity is being confirmed.
    pub(super) unconfirmed: HashMap<u32, (StatusRequest, Outcome, Usage)>,
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

    /// Whether there is something to be done about the queue just now.
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

    /// To the head of the queue, in their order.
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

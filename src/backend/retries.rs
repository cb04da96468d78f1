//! Retries of the io_uring backend: what is due, and when the next one is.

use std::io;
use std::time::{Duration, Instant};

use io_uring::opcode;

use super::slots::Stage;
use super::uring::Uring;
use crate::sync::shrink::ShrinkIfSparse;

impl Uring {
    pub(super) fn next_retry(&self) -> Option<Duration> {
        let now = Instant::now();
        let retry_queue = self.retry_queue.next_due().into_iter();
        let next = retry_queue
            .chain(self.status_fd_queue.retry_at())
            .chain(self.rearm_wake_at)
            .chain(self.stale_polls.next_removal(now))
            .min()?;
        Some(next.saturating_duration_since(now))
    }

    pub(super) fn retry_due(&mut self) -> io::Result<()> {
        if self.retry_queue.is_empty()
            && self.status_fd_queue.retry_at().is_none()
            && self.rearm_wake_at.is_none()
        {
            return Ok(());
        }
        let now = Instant::now();
        self.status_fd_queue.resume_if_due(now);
        if self.rearm_wake_at.is_some_and(|at| at <= now) {
            self.rearm_wake_at = None;
            self.arm_wake()?;
        }
        while let Some(key) = self.retry_queue.pop_due(now) {
            match self.slots.is_abandoned(key) {
                true => {
                    let mut events = std::mem::take(&mut self.pending_events);
                    let disarmed = self.disarmed(key, &mut events);
                    self.pending_events = events;
                    disarmed?;
                }
                false => self.arm_slot(key)?,
            }
        }
        Ok(())
    }

    /// Removes some polls of abandoned watches, if a slice is due.
    pub(super) fn remove_stale_polls(&mut self) -> io::Result<()> {
        if self.stale_polls.len() == 0 {
            return Ok(());
        }
        let began = Instant::now();
        if self
            .stale_polls
            .next_removal(began)
            .is_some_and(|next| next > began)
        {
            return Ok(());
        }
        loop {
            let mut some = false;
            for poll in self.stale_polls.take_newest(began) {
                let remove = opcode::PollRemove::new(poll.pack()).build();
                self.ring.push_quiet(remove)?;
                some = true;
            }
            if !some {
                break;
            }
            self.ring.submit()?;
        }
        self.stale_polls.pause(began);
        Ok(())
    }

    pub(super) fn retry_later(&mut self, key: u32) {
        self.slots.set_stage(key, Stage::Retrying);
        self.retry_queue.push(key);
    }

    pub(super) fn shrink(&mut self) {
        self.slots.shrink();
        self.status_fd_queue.shrink();
        self.retry_queue.shrink();
        self.pending_events.shrink_if_sparse();
        self.ring.shrink();
    }
}

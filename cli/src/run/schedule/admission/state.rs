//! What admission knows: the jobs that wait, those that run, and the limits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::claims::Claims;
use super::super::conditions::Conditions;
use super::super::delayed_jobs::DelayedJobs;
use super::super::slots::Slots;
use super::shortage::Shortage;
use crate::run::job::Job;
use crate::run::jobserver::tokens::Tokens;

/// If as many jobs wait for the time of their next attempt, no others start. Each of them may hold
/// what a report says about its attempts.
const DELAYED_MAX: usize = 1024;

/// The state of admission, which its lock protects.
pub(super) struct State {
    pub(super) queued: VecDeque<Job>,
    /// Jobs for another attempt, and jobs that were put back. They start first.
    pub(super) retries: VecDeque<Job>,
    /// Jobs whose next attempt has to wait. They have no slot and no permit.
    pub(super) delayed: DelayedJobs,
    /// Jobs that run or are being started.
    pub(super) active: usize,
    /// The slots of the active jobs.
    pub(super) slots: Slots,
    /// The limit on active jobs: `capacity_max`, or less after a resource ran out.
    pub(super) capacity: usize,
    /// The requested limit on active jobs.
    pub(super) capacity_max: usize,
    /// The highest value of `capacity_max`.
    pub(super) capacity_limit: usize,
    /// Why the capacity is less than requested, and when it grows.
    pub(super) shortage: Option<Shortage>,
    /// Jobs that have ended, and for which another attempt is not decided yet.
    pub(super) deferred: usize,
    /// Jobs that were released since the capacity last changed.
    pub(super) released: usize,
    /// The reader will submit no more jobs.
    pub(super) input_ended: bool,
    /// No more jobs are started.
    pub(super) closed: bool,
    /// No jobs are started for a while.
    pub(super) paused: bool,
    pub(super) sleeping_spawners: usize,
    pub(super) reader_sleeping: bool,
    pub(super) delay: Option<Duration>,
    /// No job starts before, if there is a delay.
    pub(super) next_start: Option<Instant>,
    /// The limit that a jobserver sets.
    pub(super) tokens: Option<Tokens>,
    /// What some jobs ask for, and jobs that wait for another one of their group.
    pub(super) claims: Claims,
    /// What the machine must be like for a start.
    pub(super) conditions: Option<Conditions>,
    /// Which of them holds up a job that could start.
    pub(super) hold_reason: Option<String>,
}

impl State {
    /// Whether there is a job that the limit on active jobs lets start. A job whose group is busy
    /// steps aside for those after it. A job that is too heavy does not, because lighter ones might
    /// overtake it for ever.
    pub(super) fn next_can_start(&mut self) -> bool {
        loop {
            let first = match self.retries.front() {
                Some(first) => Some(first),
                None if self.holds_up_list() => None,
                None => self.queued.front(),
            };
            let Some(first) = first else { return false };
            let weight = first.claim().map_or(1, |claim| claim.weight as usize);
            let busy = first
                .claim()
                .is_some_and(|claim| self.claims.is_busy(claim));
            // A job that is heavier than the capacity runs alone.
            if !busy {
                return self.active == 0 || self.used() + weight <= self.capacity;
            }
            let returned = self.pop().and_then(|job| self.claims.wait(job));
            debug_assert!(returned.is_none(), "its group is busy");
        }
    }

    /// The next job, if it can start.
    pub(super) fn next(&mut self) -> Option<Job> {
        match self.next_can_start() {
            true => self.pop(),
            false => None,
        }
    }

    fn pop(&mut self) -> Option<Job> {
        let first = self.retries.pop_front();
        first.or_else(|| self.queued.pop_front())
    }

    /// Whether so many jobs wait for their next attempt that no jobs of the list start.
    fn holds_up_list(&self) -> bool {
        self.delayed.len() >= DELAYED_MAX
    }

    /// The jobs that could start now.
    pub(super) fn ready(&self) -> usize {
        match self.holds_up_list() {
            true => self.retries.len(),
            false => self.retries.len() + self.queued.len(),
        }
    }

    /// Queues the jobs whose time has come.
    pub(super) fn end_delays(&mut self) {
        while let Some(job) = self.delayed.pop_due() {
            self.retries.push_back(job);
        }
    }

    /// Ends the activity of a job.
    pub(super) fn leave(&mut self, slot: u32) {
        self.slots.free(slot);
        // It was before all that is queued.
        self.retries.extend(self.claims.remove(slot));
        self.end_activity();
    }

    pub(super) fn end_activity(&mut self) {
        self.active -= 1;
        if let Some(tokens) = &mut self.tokens {
            tokens.job_ended(self.active);
            self.return_excess();
        }
    }

    /// The number of waiting jobs that the limit on active jobs lets start.
    pub(super) fn startable(&self) -> usize {
        match self.closed || self.paused {
            true => 0,
            false => self.ready().min(self.capacity.saturating_sub(self.used())),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let none_waits =
            self.unstarted() == 0 && self.retries.is_empty() && self.delayed.is_empty();
        self.active == 0 && self.deferred == 0 && (self.closed || self.input_ended && none_waits)
    }
}

//! What holds up the start of a job beside the number of active jobs: the time since the last start,
//! weights and groups, and the conditions of the machine.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::super::conditions::{Conditions, SPACING};
use super::{Admission, State};

impl Admission {
    /// Holds up starts as long as a condition does not hold.
    pub(crate) fn with_conditions(mut self, conditions: Option<Conditions>) -> Self {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if conditions.is_some() {
            state.delay = Some(state.delay.unwrap_or_default().max(SPACING));
        }
        state.conditions = conditions;
        self
    }

    /// Why a job that could start does not.
    pub(crate) fn hold_reason(&self) -> Option<String> {
        self.lock().hold_reason.clone()
    }

    /// Notes pressure that the kernel has reported, or that it will report none (`works` is false).
    pub(crate) fn pressure_reported(&self, index: usize, works: bool) {
        let mut state = self.lock();
        let conditions = state.conditions.as_mut();
        let Some(limit) = conditions.and_then(|conditions| conditions.pressure.get_mut(index))
        else {
            return;
        };
        match works {
            true => limit.reported(Instant::now()),
            false => limit.without_trigger(),
        }
    }

    /// The available memory, if it is less than half of what a start needs.
    pub(crate) fn memory_shortage(&self) -> Option<u64> {
        self.lock().conditions.as_ref()?.memory_shortage()
    }
}

impl State {
    /// The sum of the weights of the active jobs.
    pub(super) fn used(&self) -> usize {
        self.active + self.claims.extra()
    }

    /// The jobs of the list that have never started.
    pub(super) fn unstarted(&self) -> usize {
        self.queued.len() + self.claims.waiting()
    }

    /// The time for which a job that could start has to wait.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        self.hold_reason = None;
        if self.next_start.is_none() && self.conditions.is_none() || self.ready() == 0 {
            return None;
        }
        let now = Instant::now();
        let pause = self.next_start.map(|at| at.saturating_duration_since(now));
        if let Some(pause) = pause.filter(|pause| !pause.is_zero()) {
            return Some(pause);
        }
        let hold = self.conditions.as_mut()?.hold(now)?;
        self.hold_reason = Some(hold.reason);
        Some(hold.pause)
    }
}

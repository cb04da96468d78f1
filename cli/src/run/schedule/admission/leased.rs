//! Jobs of a queue, which this run has leases for.

use super::Admission;
use crate::run::job::Job;

impl Admission {
    /// Queues jobs. It does not block: a queue asks only for jobs that there is room for.
    pub(crate) fn add(&self, jobs: Vec<Job>) {
        let mut state = self.lock();
        if !state.closed {
            state.queued.extend(jobs);
            self.wake_spawners(&state);
        }
    }

    /// Whether no more jobs are started.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The limit on active jobs, which is less after a resource ran out.
    pub(crate) fn limit(&self) -> usize {
        self.lock().capacity
    }

    /// Starts no jobs until this is called with `false`.
    pub(crate) fn set_paused(&self, paused: bool) {
        let mut state = self.lock();
        state.paused = paused;
        self.wake_spawners(&state);
    }

    /// Drops the jobs that have never started, and with them their leases.
    pub(crate) fn drop_unstarted(&self) {
        let mut state = self.lock();
        state.claims.clear_waiting();
        state.hold_reason = None;
        let dropped = std::mem::take(&mut state.queued);
        drop(state);
        drop(dropped);
    }

    /// Takes a job that could not be started because a resource ran out, and drops it. The capacity
    /// drops to the number of active jobs, which is returned. If no other job is active that could
    /// free the resource, the caller keeps the job and its permit.
    pub(crate) fn drop_active(&self, job: Job) -> Result<usize, Job> {
        let mut state = self.lock();
        if state.active == 1 && !state.closed {
            return Err(job);
        }
        state.leave(job.slot);
        state.capacity = state.used().clamp(1, state.capacity_max);
        state.released = 0;
        state.return_excess();
        self.wake_spawners(&state);
        Ok(state.capacity)
    }
}

//! Jobs of a queue, which this run has leases for.

use super::Admission;
use crate::run::job::Job;

/// The most jobs with a delayed attempt that do not take a place.
const SET_ASIDE_MAX: usize = 256;

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

    /// Jobs that cannot start for a while, whatever there is room for: their next attempt has to wait,
    /// or their group has an active job. So others are taken for their places, but only so many:
    /// nobody else can run the jobs that wait here.
    pub(crate) fn set_aside(&self) -> usize {
        let state = self.lock();
        let capacity = state.capacity;
        state.delayed.len().min(SET_ASIDE_MAX) + state.claims.waiting().min(capacity)
    }

    /// Lets the run last until [`resolve_deferred`](Self::resolve_deferred) was called for a job that
    /// does not start. `false`: no more jobs are accepted.
    pub(crate) fn defer_new(&self) -> bool {
        let mut state = self.lock();
        if !state.closed {
            state.deferred += 1;
        }
        !state.closed
    }

    /// Starts no jobs until this is called with `false`.
    pub(crate) fn set_paused(&self, paused: bool) {
        let mut state = self.lock();
        state.paused = paused;
        // Also a spawner that has to wait for the capacity to grow, and did not while it was paused.
        self.can_start.notify_all();
    }

    /// Drops the jobs that have never started, and with them their leases.
    pub(crate) fn drop_unstarted(&self) {
        let mut state = self.lock();
        state.claims.clear_waiting();
        state.hold_reason = None;
        let dropped = std::mem::take(&mut state.queued);
        // They may have been all that a spawner waited for.
        self.wake_spawners(&state);
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
        let capacity = state.reduce_capacity();
        state.return_excess();
        self.wake_spawners(&state);
        Ok(capacity)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;
    use crate::run::command_spec::CommandSpec;

    #[test]
    fn spawners_end_when_the_last_jobs_are_dropped() {
        let admission = Arc::new(Admission::new(1, 1, None));
        admission.set_paused(true);
        admission.add(vec![Job {
            number: 1,
            attempt: 1,
            slot: 0,
            repeat: 0,
            slow: false,
            command: CommandSpec::Line("true".into()),
            details: None,
        }]);
        admission.end_input();
        let (sender, ended) = channel();
        let spawner = Arc::clone(&admission);
        std::thread::spawn(move || sender.send(spawner.acquire().is_none()));
        while admission.lock().sleeping_spawners == 0 {
            std::thread::yield_now();
        }
        admission.drop_unstarted();
        assert_eq!(ended.recv_timeout(Duration::from_secs(30)), Ok(true));
    }
}

//! Scheduling policies.

/// How the kernel schedules a process (`sched(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheduling {
    /// Time-sharing (`SCHED_OTHER`), the default.
    Other,
    /// Time-sharing for programs that compute: the scheduler wakes them up less eagerly
    /// (`SCHED_BATCH`).
    Batch,
    /// Only when no other process wants to run (`SCHED_IDLE`).
    Idle,
    /// Real-time, until the process blocks (`SCHED_FIFO`), with a priority from 1 to 99.
    Fifo(u8),
    /// Real-time, in turns (`SCHED_RR`), with a priority from 1 to 99.
    RoundRobin(u8),
}

impl Scheduling {
    /// The number of the policy, and the priority.
    pub(crate) fn policy(self) -> (libc::c_int, libc::c_int) {
        match self {
            Self::Other => (libc::SCHED_OTHER, 0),
            Self::Batch => (libc::SCHED_BATCH, 0),
            Self::Idle => (libc::SCHED_IDLE, 0),
            Self::Fifo(priority) => (libc::SCHED_FIFO, priority.into()),
            Self::RoundRobin(priority) => (libc::SCHED_RR, priority.into()),
        }
    }
}

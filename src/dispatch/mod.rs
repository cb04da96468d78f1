//! Dispatch: from the ring thread to the callbacks.
//!
//! ```text
//! ring_thread ──push──► exit_queue ──pop──► worker ──► callbacks
//!      └──────────────(no workers)────────────────────────┘
//! ```
//!
//! The ring thread pushes delivery guards to [`exit_queue`], and each [`worker`] pops them and runs
//! the callbacks. Without workers the ring thread runs the callbacks itself. The queue does not
//! know what its entries are. Workers call back into the ring thread's mailbox only: to wake the
//! ring thread when the queue has capacity, and to schedule callbacks that were added meanwhile.

mod callbacks;
pub(crate) mod exit_queue;
pub(crate) mod worker;

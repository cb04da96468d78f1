//! Dispatch: from the ring thread to the callbacks, and to queues of exits.
//!
//! ```text
//! ring_thread ──push──► exit_queue ──pop──► worker ──► callbacks
//!      └──────────────(no workers)────────────────────────┘
//! ```
//!
//! The ring thread pushes ended processes ([`queued`]) to [`exit_queue`]. Each [`worker`] pops them,
//! reads the status if the ring thread has not, and runs the callbacks. Without workers the ring
//! thread runs the callbacks itself. The queue does not know what its entries are. Workers call back
//! into the ring thread's mailbox only: to wake the ring thread when the queue has capacity, to
//! schedule callbacks that were added meanwhile, and to report what they read.
//!
//! [`tagged_queue`] is the queue behind [`Exits`](crate::Exits), and [`sink`] a reserved entry of
//! it. A [`record`](crate::record) stores sinks and delivers its exit into them. Sinks call the
//! queue; the queue calls neither sinks nor handles. [`orphan_queue`] is where the exits of orphans
//! go.

mod callbacks;
pub(crate) mod exit_queue;
pub(crate) mod orphan_queue;
pub(crate) mod queued;
pub(crate) mod sink;
pub(crate) mod tagged_queue;
pub(crate) mod worker;

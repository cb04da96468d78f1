//! From the ring thread to callbacks: the bounded queue of exits and the workers that empty it.
//!
//! The ring thread pushes, the workers pop. A queue holds delivery guards and knows nothing of
//! what is behind them.

mod callbacks;
pub(crate) mod exit_queue;
pub(crate) mod worker;

//! Kernel interfaces that the service uses.
//!
//! - `process.rs`: queries about one process, and signals to it.
//! - `clock.rs`: the clocks, and what each is for.
//! - `named_file.rs`: a file and the name it was opened by.
//! - `lock_file.rs`: lock files.
//!
//! Every other module may call this one. It calls none of them.

pub(crate) mod clock;
pub(crate) mod lock_file;
pub(crate) mod named_file;
pub(crate) mod process;

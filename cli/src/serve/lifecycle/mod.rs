//! The start and the end of the service, and what one process image leaves to the next.
//!
//! - `inherited.rs`: descriptors from systemd, or from the previous image. `listener.rs`: the
//!   socket.
//! - `restore.rs`: the watches from before the start. `zombies.rs`: gives up on those of them that
//!   nothing reaps.
//! - `signals.rs`: what ends the service. `reexec.rs`: executes it again. `systemd.rs`:
//!   notifications to systemd.
//! - `process_settings.rs`: the log, and the limit of descriptors.
//!
//! `run.rs` and `accept.rs` call this module. It calls `service/` and what is below, and reads the
//! name of one variable from `requests/`.

pub(super) mod inherited;
pub(super) mod listener;
pub(super) mod process_settings;
pub(super) mod reexec;
pub(super) mod restore;
pub(super) mod signals;
pub(super) mod systemd;
pub(super) mod zombies;

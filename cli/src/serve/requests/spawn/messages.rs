//! The messages of the start gate.

/// To the child: execute the program.
pub(super) const RELEASE: u8 = 1;
/// To the child: exit.
pub(super) const ABORT: u8 = 0;

/// From the child: it waits at the start gate. Any other first byte reports a failure: the number
/// of the standard stream whose file could not be opened, or [`PROGRAM`]. An error number follows.
pub(super) const READY: u8 = 255;
/// From the child: a step other than opening a file has failed.
pub(super) const PROGRAM: u8 = 3;
/// Bytes of a message from the child.
pub(super) const REPORT_BYTES: usize = 5;

//! What the exit codes mean, the same for every subcommand.

/// All went well.
pub(crate) const OK: u8 = 0;
/// A process did not end well.
pub(crate) const FAILED: u8 = 1;
/// It could not be done.
pub(crate) const CANNOT: u8 = 2;

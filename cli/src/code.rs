//! What the exit codes mean, the same for every subcommand.

/// All went well.
pub(crate) const OK: u8 = 0;

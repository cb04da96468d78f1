//! What the exit codes mean, the same for every subcommand.

/// All went well.
pub(crate) const OK: u8 = 0;
/// Some jobs failed; what was waited for did not all end well.
pub(crate) const SOME_FAILED: u8 = 1;
/// The command line, or what it names, is wrong.
pub(crate) const USAGE: u8 = 2;
/// Something ran out, or is denied: disk, descriptors, processes, memory.
pub(crate) const RESOURCE: u8 = 3;
/// It took too long, as `timeout(1)` says it.
pub(crate) const TIMED_OUT: u8 = 124;
/// Interrupted by Ctrl-C or a request to end: 128 and the number of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;
/// Nobody reads standard output any more: 128 and the number of SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 141;

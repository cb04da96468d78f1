//! The exit codes. `serve`, `watch` and `exits` use 2 for every failure of their own. `watch`,
//! `exits`, `doctor`, `man` and `completions` do not report that the reader closed standard output.

/// Success.
pub(crate) const OK: u8 = 0;
/// Some jobs failed, or a process could not be waited for.
pub(crate) const SOME_FAILED: u8 = 1;
/// The command line, or a file that it names, is wrong.
pub(crate) const USAGE: u8 = 2;
/// A resource ran out or is denied: disk, descriptors, processes, memory.
pub(crate) const RESOURCE: u8 = 3;
/// A timeout expired, as with `timeout(1)`.
pub(crate) const TIMED_OUT: u8 = 124;
/// Interrupted by Ctrl-C or another request to end: 128 plus the number of SIGINT.
pub(crate) const INTERRUPTED: u8 = 130;
/// The reader of standard output closed it: 128 plus the number of SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 141;

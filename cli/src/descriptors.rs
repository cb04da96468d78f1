//! Descriptors that are inherited over an exec.

// The function of the C library is missing in musl.
use libc::{CLOSE_RANGE_CLOEXEC, SYS_close_range, c_uint};

/// The environment variable by which a service names descriptors to the image that it executes in
/// place.
pub(crate) const HANDOVER_VARIABLE: &str = "EXITRING_SERVE_HANDOVER";

/// Sets close-on-exec on all descriptors but the standard streams.
pub(crate) fn close_on_exec() {
    // SAFETY: this closes nothing; it only sets a flag on descriptors.
    unsafe { libc::syscall(SYS_close_range, 3, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
}

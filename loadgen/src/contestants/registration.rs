//! The registration of children by a thread of the contestant.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::measure::interrupt::interrupted;

/// The time within which the thread must have registered all children.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Waits until the registration of all children is complete. Fails after 10 s and after an interrupt.
pub(super) fn wait_until(is_complete: impl Fn() -> bool) -> Result<()> {
    wait_within(TIMEOUT, is_complete)
}

fn wait_within(limit: Duration, is_complete: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_complete() {
        ensure!(!interrupted(), "interrupted");
        ensure!(
            start.elapsed() < limit,
            "not all children are registered after {limit:?}; end other programs, or measure fewer children"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_that_is_never_complete_is_an_error() {
        wait_within(Duration::ZERO, || true).expect("it is complete");
        let error = wait_within(Duration::ZERO, || false).expect_err("it is not");
        assert!(error.to_string().contains("not all children"), "{error}");
    }
}

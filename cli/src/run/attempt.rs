//! A failed attempt at a job that got another one.

use std::time::Duration;

use super::output_tail::{OutputTail, Tail};

/// The most attempts of a job that are kept: the first one and the last ones.
const ATTEMPTS_MAX: usize = 100;
/// The most bytes of output of all attempts of a job. That of early ones is dropped, and that of the
/// first one at last.
const OUTPUT_MAX: usize = 64 * 1024;

/// An attempt that failed.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    /// How it ended, in a few words.
    pub(crate) description: String,
    /// The kind of the failure, for programs.
    pub(crate) kind: &'static str,
    /// As in a record.
    pub(crate) started_at: String,
    pub(crate) time: Duration,
    pub(crate) output: OutputTail,
}

/// The attempts at a job before the last one.
#[derive(Debug, Default)]
pub(crate) struct FailedAttempts(Vec<FailedAttempt>);

impl FailedAttempts {
    /// Adds an attempt. The size is bounded, because many jobs may wait for their next attempt.
    pub(crate) fn push(&mut self, attempt: FailedAttempt) {
        if self.0.len() == ATTEMPTS_MAX {
            self.0.remove(1);
        }
        self.0.push(attempt);
        let length = |attempt: &FailedAttempt| attempt.output.iter().map(Tail::len).sum::<usize>();
        let mut excess = self.0.iter().map(length).sum::<usize>();
        // The first one is what a report shows of a job that failed at all attempts.
        let Some((first, others)) = self.0.split_first_mut() else {
            return;
        };
        for attempt in others.iter_mut().chain([first]) {
            if excess <= OUTPUT_MAX {
                break;
            }
            excess -= length(attempt);
            attempt.output.iter_mut().for_each(Tail::clear);
        }
    }

    pub(crate) fn as_slice(&self) -> &[FailedAttempt] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_all_attempts_is_bounded() {
        let mut attempts = FailedAttempts::default();
        for number in 0..3 * ATTEMPTS_MAX {
            attempts.push(FailedAttempt {
                description: number.to_string(),
                kind: "exit code",
                started_at: String::new(),
                time: Duration::ZERO,
                output: [Tail::after(0, vec![b'x'; 30_000]), Tail::default()],
            });
        }
        let attempts = attempts.as_slice();
        assert_eq!(attempts.len(), ATTEMPTS_MAX);
        let size = |attempt: &FailedAttempt| attempt.output[0].len();
        assert_eq!(attempts.iter().map(size).sum::<usize>(), 60_000);
        // The first one and the last ones.
        let last = &attempts[ATTEMPTS_MAX - 1];
        assert_eq!([size(&attempts[0]), size(last)], [30_000; 2]);
        assert_eq!(
            [&*attempts[0].description, &*last.description],
            ["0", "299"]
        );
    }
}

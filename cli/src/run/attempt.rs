//! A failed attempt at a job that got another one.

use std::time::Duration;

use super::output_tail::{OutputTail, Tail};

/// The most attempts of a job that are kept; the first ones are dropped.
const ATTEMPTS_MAX: usize = 100;
/// The most bytes of output of all attempts of a job; that of the first ones is dropped.
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
            self.0.remove(0);
        }
        self.0.push(attempt);
        let length = |attempt: &FailedAttempt| attempt.output.iter().map(Tail::len).sum::<usize>();
        let mut excess = self.0.iter().map(length).sum::<usize>();
        for attempt in &mut self.0 {
            if excess <= OUTPUT_MAX {
                break;
            }
            excess -= length(attempt);
            attempt.output.iter_mut().for_each(Tail::clear);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &FailedAttempt> {
        self.0.iter()
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
                output: [Tail::after(0, &[b'x'; 30_000]), Tail::default()],
            });
        }
        let sizes: Vec<_> = attempts.iter().map(|it| it.output[0].len()).collect();
        assert_eq!(sizes.len(), ATTEMPTS_MAX);
        assert_eq!(sizes.iter().sum::<usize>(), 60_000);
        let last = attempts.iter().last().map(|it| it.description.clone());
        assert_eq!(last, Some("299".into()));
    }
}

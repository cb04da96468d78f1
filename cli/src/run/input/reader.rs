//! The thread that reads the list and submits the jobs of this shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::shard::Shard;
use super::source::{Item, Source};
use crate::failure::Failure;
use crate::run::command_spec::CommandSpec;
use crate::run::job::Job;
use crate::run::output::submitted_jobs::SubmittedJobs;
use crate::run::report::resume::{Resume, ResumeAction};
use crate::run::schedule::admission::Admission;
use crate::run::schedule::event_queue::{Event, EventQueue};

/// How many jobs are submitted at a time, as long as reading does not block.
const BATCH: usize = 64;

pub(crate) struct Reader {
    pub(crate) source: Source,
    pub(crate) shard: Shard,
    pub(crate) resume: Option<Resume>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) event_queue: Arc<EventQueue>,
    /// The jobs whose output is kept in the order of the list.
    pub(crate) submitted: Option<Arc<SubmittedJobs>>,
    pub(crate) counts: Arc<ListCounts>,
}

/// Counters that the reader alone writes.
#[derive(Default)]
pub(crate) struct ListCounts {
    expected: AtomicU64,
    done_before: AtomicU64,
    failed_before: AtomicU64,
}

impl ListCounts {
    /// The estimated number of jobs in this shard, including those that an earlier run has done.
    pub(crate) fn expected(&self) -> Option<u64> {
        Some(self.expected.load(Ordering::Relaxed)).filter(|&count| count > 0)
    }

    /// The same without those that an earlier run has done.
    pub(crate) fn expected_now(&self) -> Option<u64> {
        Some(self.expected()?.saturating_sub(self.done_before()))
    }

    /// How many jobs an earlier run has done.
    pub(crate) fn done_before(&self) -> u64 {
        self.done_before.load(Ordering::Relaxed)
    }

    /// How many of those failed.
    pub(crate) fn failed_before(&self) -> u64 {
        self.failed_before.load(Ordering::Relaxed)
    }
}

impl Reader {
    pub(crate) fn run(mut self) {
        let mut guard = EndGuard {
            admission: Arc::clone(&self.admission),
            event_queue: Arc::clone(&self.event_queue),
            event: None,
        };
        guard.event = Some(match self.read() {
            Ok(()) => Event::ListRead,
            Err(failure) => Event::CannotContinue(failure),
        });
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut last = 0;
        while let Some(Item {
            number,
            command,
            details,
        }) = self.source.next()?
        {
            last = number;
            if self.shard.contains(number) && self.should_run(number, &command)? {
                batch.push(Job {
                    number,
                    attempt: 1,
                    slot: 0,
                    slow: false,
                    command,
                    details,
                });
            }
            // Submit everything that was read before a read can block.
            if batch.len() == BATCH || !self.source.has_buffered_item() {
                self.set_expected(self.source.estimate());
                if !self.submit(&mut batch) {
                    return Ok(());
                }
            }
        }
        self.set_expected(Some(last));
        self.submit(&mut batch);
        Ok(())
    }

    fn submit(&self, batch: &mut Vec<Job>) -> bool {
        if let Some(submitted) = &self.submitted {
            submitted.add(batch.iter().map(|job| job.number));
        }
        self.admission.submit(batch)
    }

    fn should_run(&mut self, number: u64, command: &CommandSpec) -> Result<bool, Failure> {
        let Some(resume) = &mut self.resume else {
            return Ok(true);
        };
        let ResumeAction::Skip { failed } = resume.action(number, command)? else {
            return Ok(true);
        };
        self.counts.done_before.fetch_add(1, Ordering::Relaxed);
        self.counts
            .failed_before
            .fetch_add(u64::from(failed), Ordering::Relaxed);
        Ok(false)
    }

    fn set_expected(&self, numbers: Option<u64>) {
        let here = numbers.map_or(0, |numbers| self.shard.count_in(numbers));
        self.counts.expected.store(here, Ordering::Relaxed);
    }
}

/// Reports the end of the list when it is dropped. That includes a panic, which would be a bug: the
/// run must not wait forever.
struct EndGuard {
    admission: Arc<Admission>,
    event_queue: Arc<EventQueue>,
    event: Option<Event>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let panicked =
            || Event::CannotContinue(Failure::resource("the thread that reads the list panicked"));
        // The event comes before `end_input`, after which the run can be over. The supervisor is
        // woken up again after `end_input`.
        self.event_queue
            .push(self.event.take().unwrap_or_else(panicked));
        self.admission.end_input();
        self.event_queue.set_readable();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_reader_ends_the_list_and_is_reported() {
        let (admission, event_queue) = (
            Arc::new(Admission::new(1, 1, None)),
            Arc::new(EventQueue::new().expect("an eventfd")),
        );
        let guard = EndGuard {
            admission: Arc::clone(&admission),
            event_queue: Arc::clone(&event_queue),
            event: None,
        };
        let reader = std::thread::spawn(move || {
            let _guard = guard;
            panic!("on purpose");
        });
        reader.join().expect_err("it panicked");
        let mut events = Vec::new();
        event_queue.take(&mut events);
        assert!(matches!(events[..], [Event::CannotContinue(_)]));
        assert!(admission.is_over());
    }
}

//! The thread that reads the list and submits the jobs of this run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::item::Item;
use super::selection::{Selected, Selection};
use crate::failure::Failure;
use crate::run::job::Job;
use crate::run::schedule::admission::Admission;
use crate::run::schedule::event_queue::{Event, EventQueue};

/// How many jobs are submitted at a time, as long as reading does not block.
const BATCH: usize = 64;

pub(crate) struct Reader {
    pub(crate) selection: Selection,
    pub(crate) admission: Arc<Admission>,
    pub(crate) event_queue: Arc<EventQueue>,
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

    fn add_done_before(&self, failed: bool) {
        self.done_before.fetch_add(1, Ordering::Relaxed);
        self.failed_before
            .fetch_add(u64::from(failed), Ordering::Relaxed);
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
        while let Some(selected) = self.selection.next()? {
            match selected {
                Selected::Run(Item {
                    number,
                    repeat,
                    command,
                    details,
                    ..
                }) => batch.push(Job {
                    number,
                    attempt: 1,
                    slot: 0,
                    repeat,
                    slow: false,
                    command,
                    details,
                }),
                Selected::DoneBefore { failed } => self.counts.add_done_before(failed),
                Selected::Notice(text) => self.event_queue.push(Event::Notice(text)),
                Selected::Skipped => {}
            }
            // Submit everything that was read before a read can block.
            if batch.len() == BATCH || !self.selection.has_buffered_item() {
                self.set_expected(self.selection.estimate());
                if !self.submit(&mut batch) {
                    return Ok(());
                }
            }
        }
        self.set_expected(Some(self.selection.selected()));
        self.submit(&mut batch);
        Ok(())
    }

    fn submit(&self, batch: &mut Vec<Job>) -> bool {
        if let Some(submitted) = &self.selection.submitted
            && !self.selection.has_submitted()
        {
            submitted.add(batch.iter().map(|job| job.number));
        }
        self.admission.submit(batch)
    }

    fn set_expected(&self, numbers: Option<u64>) {
        let expected = numbers.unwrap_or_default();
        self.counts.expected.store(expected, Ordering::Relaxed);
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

//! The thread that reads the list, and brings what is to be run here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::Failure;
use crate::run::input::shard::Shard;
use crate::run::input::source::Source;
use crate::run::job::{Job, Order};
use crate::run::report::resume::{Resume, Verdict};
use crate::run::schedule::admission::Gate;
use crate::run::schedule::event_queue::{Inbox, News};

/// So many are brought at a time, if they can be had without waiting.
const BATCH: usize = 64;

pub(crate) struct Reader {
    pub(crate) source: Source,
    pub(crate) shard: Shard,
    pub(crate) resume: Option<Resume>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) counts: Arc<Counts>,
}

/// What the reader counts. Written by it alone.
#[derive(Default)]
pub(crate) struct Counts {
    expected: AtomicU64,
    done_before: AtomicU64,
    failed_before: AtomicU64,
}

impl Counts {
    /// How many jobs there will be here, those done before included, as far as can be told.
    pub(crate) fn expected(&self) -> Option<u64> {
        Some(self.expected.load(Ordering::Relaxed)).filter(|&count| count > 0)
    }

    /// How many a former run has done.
    pub(crate) fn done_before(&self) -> u64 {
        self.done_before.load(Ordering::Relaxed)
    }

    /// How many of these failed.
    pub(crate) fn failed_before(&self) -> u64 {
        self.failed_before.load(Ordering::Relaxed)
    }
}

impl Reader {
    pub(crate) fn work(mut self) {
        let mut end = End {
            gate: Arc::clone(&self.gate),
            inbox: Arc::clone(&self.inbox),
            news: None,
        };
        end.news = Some(match self.read() {
            Ok(()) => News::Read,
            Err(failure) => News::Stuck(failure),
        });
    }

    fn read(&mut self) -> Result<(), Failure> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut last = 0;
        while let Some((number, order)) = self.source.next()? {
            last = number;
            if self.shard.has(number) && self.is_to_run(number, &order)? {
                batch.push(Job {
                    number,
                    attempt: 1,
                    order,
                });
            }
            // Who waits for the next line waits with all that came before it under way.
            if batch.len() == BATCH || !self.source.is_ready() {
                self.expect(self.source.estimate());
                if !self.gate.bring(&mut batch) {
                    return Ok(());
                }
            }
        }
        self.expect(Some(last));
        self.gate.bring(&mut batch);
        Ok(())
    }

    fn is_to_run(&mut self, number: u64, order: &Order) -> Result<bool, Failure> {
        let Some(resume) = &mut self.resume else {
            return Ok(true);
        };
        let Verdict::Done { failed } = resume.verdict(number, order)? else {
            return Ok(true);
        };
        self.counts.done_before.fetch_add(1, Ordering::Relaxed);
        self.counts
            .failed_before
            .fetch_add(u64::from(failed), Ordering::Relaxed);
        Ok(false)
    }

    fn expect(&self, numbers: Option<u64>) {
        let here = numbers.map_or(0, |numbers| self.shard.share_of(numbers));
        self.counts.expected.store(here, Ordering::Relaxed);
    }
}

/// Tells that no more will come, even after a panic, which would be a bug: the run must not wait for ever.
struct End {
    gate: Arc<Gate>,
    inbox: Arc<Inbox>,
    news: Option<News>,
}

impl Drop for End {
    fn drop(&mut self) {
        let panicked = || News::Stuck(Failure::resource("the thread that reads the list panicked"));
        // Told before the run can be over, and known to be over after it was told.
        self.inbox.tell(self.news.take().unwrap_or_else(panicked));
        self.gate.complete();
        self.inbox.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_the_list_and_is_told() {
        let (gate, inbox) = (
            Arc::new(Gate::new(1, 1)),
            Arc::new(Inbox::new().expect("an eventfd")),
        );
        let end = End {
            gate: Arc::clone(&gate),
            inbox: Arc::clone(&inbox),
            news: None,
        };
        let reader = std::thread::spawn(move || {
            let _end = end;
            panic!("on purpose");
        });
        reader.join().expect_err("it panicked");
        let mut news = Vec::new();
        inbox.take(&mut news);
        assert!(matches!(news[..], [News::Stuck(_)]));
        assert!(gate.is_over());
    }
}

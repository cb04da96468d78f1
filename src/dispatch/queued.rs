//! The entries of the exit queue.

use std::sync::Arc;

use crate::record::delivery_guard::DeliveryGuard;
use crate::ring_thread::command::Command;
use crate::ring_thread::unread_exit::{ReadExit, UnreadExit};
use crate::shared::Shared;

/// A process that has ended, and that has callbacks to run.
pub(crate) enum Queued {
    /// Its exit is stored.
    Exit(DeliveryGuard),
    /// Its status is to be read first.
    Unread(Box<UnreadExit>),
}

impl Queued {
    /// Starts to load what the next two entries need: the exit of the first, and the record of the
    /// second, where the exit is found when that entry is the first.
    pub(crate) fn prefetch(first: Option<&Self>, second: Option<&Self>) {
        if let Some(Self::Exit(guard)) = first {
            guard.prefetch_exit();
        }
        if let Some(Self::Exit(guard)) = second {
            guard.prefetch();
        }
    }

    /// Reads the status if that is to be done. Returns the guard if there are callbacks to run.
    ///
    /// This is the first thing that the worker does with an entry. Until the exit is stored it runs
    /// no code of the user, which could wait for this exit.
    pub(super) fn into_exit(self, shared: &Shared) -> Option<DeliveryGuard> {
        let unread = match self {
            Self::Exit(guard) => return Some(guard),
            Self::Unread(unread) => unread,
        };
        match unread.read(shared.settings.usage) {
            ReadExit::Stored {
                record,
                outcome,
                guard,
                ..
            } => {
                shared.counters.count_delivery(outcome);
                // Before the callbacks run, which may register the next watches.
                shared.counters.watched.sub(1);
                // What the ring thread keeps for a process that lives was added since it passed
                // the exit on. A closed mailbox keeps nothing.
                if record.has_extra() {
                    let _ = shared.mailbox.send(Command::Ended(Arc::clone(&record)));
                }
                guard
            }
            ReadExit::NotYet(guard, pidfd) => {
                // If the mailbox is closed, dropping the returned guard closes the record.
                drop(shared.mailbox.send(Command::Retry(guard, pidfd)));
                None
            }
        }
    }
}

#[cfg(all(test, not(exitring_loom)))]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command as Program;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::backend::StatusSource;
    use crate::record::{NewDeadline, Ownership, Record, WatchFor};
    use crate::sys::{self, WaitResult, WaitTarget};
    use crate::types::exit::Outcome;
    use crate::{Pid, Watcher};

    /// An unread exit of a child that is ours, with a callback that counts, and that record.
    fn unread(shared: &Shared, pid: u32, runs: &Arc<AtomicU32>) -> (Queued, Arc<Record>) {
        let pid = Pid::try_from(pid).expect("a pid");
        let record = Arc::new(Record::new(pid, Ownership::Owned, WatchFor::Exited));
        // As for a watch that was registered.
        shared.counters.watched.add(1);
        let runs = Arc::clone(runs);
        let count = Box::new(move |_: &_| {
            runs.fetch_add(1, Ordering::SeqCst);
        });
        assert!(record.on_exit(shared, count).is_ok());
        let unread = UnreadExit {
            guard: DeliveryGuard::new(Arc::clone(&record)),
            source: StatusSource::Owned {
                pidfd: None,
                inode: None,
                maybe_reused: false,
            },
            seen_at: Instant::now(),
            maybe_reused: false,
        };
        (Queued::Unread(Box::new(unread)), record)
    }

    fn until(holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < Duration::from_secs(30), "timeout");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "the ring thread reaps it")]
    fn a_status_that_is_not_available_yet_is_read_later_by_the_ring_thread() {
        let watcher = Watcher::new().expect("a watcher can be built");
        let shared = watcher.shared();
        let runs = Arc::default();
        let mut sleep = Program::new("sleep")
            .arg("1000")
            .spawn()
            .expect("it starts");
        let (queued, record) = unread(shared, sleep.id(), &runs);
        assert!(queued.into_exit(shared).is_none());
        assert_eq!(watcher.stats().watched, 1);
        assert!(record.exit().is_none());
        // Not `wait`: the ring thread reaps it.
        sleep.kill().expect("it lives");
        until(|| runs.load(Ordering::SeqCst) == 1);
        let outcome = record.exit().map(|exit| exit.outcome());
        assert!(matches!(outcome, Some(Outcome::Signaled { signal: 9, .. })));
        until(|| watcher.stats().watched == 0);
        assert_eq!(watcher.stats().delivered, 1);
    }

    /// Watches a child that ends after a pause. Returns whether a worker reaped it.
    fn is_passed(watcher: &Watcher, deadline: Option<Duration>) -> bool {
        let before = watcher.shared().passed.get();
        let sleep = Program::new("sleep").arg("1000").spawn();
        let child = watcher
            .adopt(sleep.expect("it starts"))
            .expect("it is ours");
        if let Some(deadline) = deadline {
            child
                .deadline(deadline, deadline)
                .expect("the watcher lives");
        }
        let runs = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&runs);
        let added = child.on_exit(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        added.expect("the watcher lives");
        until(|| watcher.stats().armed == 1);
        std::thread::sleep(Duration::from_millis(5));
        child.kill().expect("it lives");
        until(|| runs.load(Ordering::SeqCst) == 1);
        // The permit was returned before the callback ran.
        assert_eq!(watcher.stats().watched, 0);
        watcher.shared().passed.get() > before
    }

    #[test]
    fn a_worker_reaps_a_child_for_which_only_callbacks_wait() {
        let watcher = Watcher::builder().workers(1).build();
        let watcher = watcher.expect("a watcher can be built");
        let me = sys::pidfd_open(Pid::try_from(std::process::id()).expect("a pid"));
        let has_inode = me.is_ok_and(|me| sys::pidfs_inode(me.as_fd()).is_some());
        match watcher.stats().backend == "epoll" || has_inode {
            // On a busy machine the ring thread may see no pause.
            true => until(|| is_passed(&watcher, None)),
            false => assert!(!is_passed(&watcher, None)),
        }
        for _ in 0..10 {
            assert!(!is_passed(&watcher, Some(Duration::from_secs(3600))));
        }
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "the read reaps it")]
    fn the_ring_thread_forgets_a_deadline_that_was_set_before_the_read() {
        let watcher = Watcher::new().expect("a watcher can be built");
        let shared = watcher.shared();
        let runs = Arc::default();
        let child = Program::new("true").spawn().expect("it starts");
        let (queued, record) = unread(shared, child.id(), &runs);
        let ended = || sys::waitid(WaitTarget::PeekPid(record.pid()));
        until(|| matches!(ended(), Ok(WaitResult::Ended(..))));
        let deadline = NewDeadline {
            at: Some(Instant::now() + Duration::from_secs(3600)),
            grace: Duration::from_secs(3600),
        };
        let send = || {
            let command = Command::Deadline(Arc::clone(&record));
            shared.mailbox.send(command).is_ok()
        };
        assert!(record.request_deadline(deadline, send));
        shared.mailbox.flush(Duration::from_secs(10));
        // This one, that of the guard, and that of the deadline.
        assert_eq!(Arc::strong_count(&record), 3);
        let guard = queued.into_exit(shared).expect("it has a callback");
        guard.run_callbacks(shared, None);
        shared.mailbox.flush(Duration::from_secs(10));
        assert_eq!(Arc::strong_count(&record), 1);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }
}

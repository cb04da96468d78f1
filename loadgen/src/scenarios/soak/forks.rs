//! The cases of a soak in which a child is a fork of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use exitring::{Cancel, Exit, Pid, Watch};

use super::case::{Case, Expected, SIGNALS};
use super::child::{Life, fork, wait_for_zombie};
use super::driver::{Driver, EXIT_TIMEOUT};
use super::job::{Handle, Job, PANIC, checked_callback};
use crate::measure::recorder::reap;

impl Driver {
    /// Starts a case with a fork. Returns that it has a child with an exit.
    pub(super) fn start_fork(&mut self, case: Case, tag: u64) -> Result<bool> {
        let code = self.random.i32(0..256);
        let signal = SIGNALS[self.random.usize(..SIGNALS.len())];
        let (life, expected) = match case {
            Case::Kill | Case::Stop => (Life::Pause, Expected::Signal(signal)),
            Case::Deadline => (Life::Pause, Expected::ByDeadline),
            Case::ReapWatched | Case::ReapOwned => (Life::Exit(code), Expected::CodeOrReaped(code)),
            _ => (Life::Exit(code), Expected::Code(code)),
        };
        let pid = fork(life)?;
        if case == Case::AdoptZombie {
            wait_for_zombie(pid);
        }
        let handle = match case {
            Case::Watch | Case::ReapWatched => Handle::Watched(self.watcher.watch(pid)?),
            _ => Handle::Owned(self.watcher.adopt_pid(pid)?),
        };
        let mut job = Job::new(tag, handle);
        match case {
            Case::Queue => self.enqueue(&mut job, pid, expected)?,
            _ => self.apply(case, pid, signal, expected, &mut job)?,
        }
        self.jobs.push_back(job);
        Ok(true)
    }

    fn apply(
        &mut self,
        case: Case,
        pid: Pid,
        signal: i32,
        expected: Expected,
        job: &mut Job,
    ) -> Result<()> {
        let watch: &Watch = match &job.handle {
            Handle::Owned(child) => child,
            Handle::Watched(watch) => watch,
            Handle::Dropped => return Ok(()),
        };
        if case == Case::LateCallback && watch.wait_timeout(EXIT_TIMEOUT)?.is_none() {
            self.count.lost += 1;
        }
        add_first_callback(case, watch, job, &self.wrong, pid, expected)?;
        let second = {
            let runs = Arc::clone(&job.runs);
            move |_: &Exit| {
                runs.second.fetch_add(1, Ordering::SeqCst);
            }
        };
        match case {
            Case::Kill => job.handle.child().signal(signal)?,
            Case::Stop => {
                let child = job.handle.child();
                child.signal(libc::SIGSTOP)?;
                child.signal(libc::SIGCONT)?;
                child.signal(signal)?;
            }
            Case::Deadline => {
                let after = Duration::from_micros(self.random.u64(0..2000));
                job.handle
                    .child()
                    .deadline(after, Duration::from_millis(20))?;
            }
            // Races with the watcher. Either may get the status.
            Case::ReapWatched | Case::ReapOwned => {
                if self.random.bool() {
                    std::thread::yield_now();
                }
                // SAFETY: no pointers but null. Only this thread forks, so the pid is not reused.
                unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), 0) };
            }
            Case::Panic => {
                watch.on_exit(second)?;
                job.second = Some(1);
            }
            Case::Cancel => {
                let id = watch.on_exit(second)?;
                match self.random.u8(0..3) {
                    0 => {}
                    1 => std::thread::yield_now(),
                    _ => _ = watch.wait_timeout(EXIT_TIMEOUT)?,
                }
                let cancelled = watch.cancel(id);
                // The result of `cancel` holds from its return on.
                let expected = u32::from(cancelled != Cancel::Cancelled);
                let runs = job.runs.second.load(Ordering::SeqCst);
                self.wrong
                    .fetch_add(u64::from(runs != expected), Ordering::SeqCst);
                job.second = Some(expected);
            }
            Case::Drop => job.handle = Handle::Dropped,
            _ => {}
        }
        Ok(())
    }
}

/// Adds the callback that checks the exit.
fn add_first_callback(
    case: Case,
    watch: &Watch,
    job: &Job,
    wrong: &Arc<AtomicU64>,
    pid: Pid,
    expected: Expected,
) -> Result<()> {
    let check = checked_callback(&job.runs, wrong, pid, expected);
    match (case, expected) {
        (Case::Watch, Expected::Code(code)) => {
            let wrong = Arc::clone(wrong);
            watch.on_exit(move |exit| {
                let reaped = reap(pid);
                wrong.fetch_add(u64::from(reaped != Some(code)), Ordering::SeqCst);
                check(exit);
            })?;
        }
        (Case::Panic, _) => {
            watch.on_exit(move |exit| {
                check(exit);
                std::panic::panic_any(PANIC);
            })?;
        }
        _ => drop(watch.on_exit(check)?),
    }
    Ok(())
}

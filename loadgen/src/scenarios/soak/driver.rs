//! Starts the children of a soak, and checks what happened to each.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use exitring::{Cancel, Exit, Exits, Pid, Watch, Watcher};

use super::case::{CASES, Case, Expected, SIGNALS};
use super::child::{Life, fork, wait_for_zombie};
use super::job::{Handle, Job, PANIC, checked_callback};
use crate::measure::recorder::reap;
use crate::types::options::SoakOptions;

/// An exit or a callback counts as lost after this time.
const EXIT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Counts {
    pub(super) exits: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    wrong: u64,
}

pub(super) struct Driver {
    watcher: Watcher,
    exits: Exits,
    random: fastrand::Rng,
    /// Errors that callbacks and cases found.
    wrong: Arc<AtomicU64>,
    jobs: VecDeque<Job>,
    /// Exits that were fetched from the queue before their job was finished.
    fetched: HashMap<u64, Exit>,
    /// What the queue is expected to deliver, by tag.
    expected: HashMap<u64, (Pid, Expected)>,
    pub(super) cases: BTreeMap<&'static str, u64>,
    pub(super) count: Counts,
}

impl Driver {
    pub(super) fn new(workers: usize, options: &SoakOptions) -> Result<Self> {
        let watcher = Watcher::builder().workers(workers).build();
        let watcher = watcher.context("building the watcher")?;
        Ok(Self {
            exits: watcher.exits(options.concurrency as usize)?,
            watcher,
            random: fastrand::Rng::with_seed(options.seed),
            wrong: Arc::default(),
            jobs: VecDeque::new(),
            fetched: HashMap::new(),
            expected: HashMap::new(),
            cases: BTreeMap::new(),
            count: Counts::default(),
        })
    }

    /// The number of children that are not finished.
    pub(super) fn running(&self) -> u64 {
        self.jobs.len() as u64
    }

    /// The number of deliveries with the wrong process, status or number of callbacks.
    pub(super) fn wrong(&self) -> u64 {
        self.count.wrong + self.wrong.load(Ordering::SeqCst)
    }

    pub(super) fn descriptors(&self) -> u64 {
        self.watcher.stats().descriptors
    }

    pub(super) fn start_one(&mut self, tag: u64) -> Result<()> {
        let (case, name) = CASES[self.random.usize(..CASES.len())];
        *self.cases.entry(name).or_default() += 1;
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
        let mut job = Job {
            tag,
            runs: Arc::default(),
            handle,
            queued: case == Case::Queue,
            second: None,
        };
        self.apply(case, pid, signal, expected, &mut job)?;
        self.jobs.push_back(job);
        Ok(())
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
        if case == Case::Queue {
            self.expected.insert(job.tag, (pid, expected));
            self.exits.add(watch, job.tag)?;
        } else {
            add_first_callback(case, watch, job, &self.wrong, pid, expected)?;
        }
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

    /// Waits until everything has happened that is expected of the oldest child.
    pub(super) fn finish_oldest(&mut self) -> Result<()> {
        let Some(job) = self.jobs.pop_front() else {
            return Ok(());
        };
        let start = Instant::now();
        let expected = (u32::from(!job.queued), job.second.unwrap_or(0));
        let runs = || {
            (
                job.runs.first.load(Ordering::SeqCst),
                job.runs.second.load(Ordering::SeqCst),
            )
        };
        loop {
            self.fetch()?;
            let (first, second) = runs();
            let fetched = !job.queued || self.fetched.contains_key(&job.tag);
            if first >= expected.0 && second >= expected.1 && fetched {
                break;
            }
            if start.elapsed() > EXIT_TIMEOUT {
                self.count.lost += 1;
                eprintln!(
                    "loadgen: soak: the callbacks of child {} ran {:?} times instead of {expected:?}",
                    job.tag,
                    runs()
                );
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        let (first, second) = runs();
        let surplus = first - expected.0 + second - expected.1;
        self.count.duplicates += u64::from(surplus);
        self.fetched.remove(&job.tag);
        self.count.exits += 1;
        Ok(())
    }

    /// Fetches and checks the exits that are ready in the queue.
    fn fetch(&mut self) -> Result<()> {
        for tagged in self.exits.try_iter() {
            let tagged = tagged?;
            let Some((pid, expected)) = self.expected.remove(&tagged.tag) else {
                self.count.duplicates += 1;
                continue;
            };
            let right = tagged.exit.pid() == pid && expected.fits(&tagged.exit);
            self.count.wrong += u64::from(!right);
            self.fetched.insert(tagged.tag, tagged.exit);
        }
        Ok(())
    }

    /// The number of exits in the queue after all children are finished.
    pub(super) fn leftovers(&mut self) -> Result<u64> {
        let before = self.count.duplicates;
        self.fetch()?;
        Ok(self.count.duplicates - before + self.fetched.len() as u64)
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

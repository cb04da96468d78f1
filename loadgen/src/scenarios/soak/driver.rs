//! Starts the children of a soak, and checks what happened to each. `commands` has the part that
//! starts programs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use exitring::{Cancel, Exit, Exits, Pid, Watch, Watcher};

use super::case::{CASES, Case, Expected, SIGNALS};
use super::child::{Life, fork, wait_for_zombie};
use super::job::{After, Handle, Job, PANIC, check_exit, checked_callback};
use super::leftovers::{is_closed_soon, reap_killed};
use super::surroundings::Surroundings;
use crate::measure::recorder::reap;
use crate::types::options::SoakOptions;

/// An exit or a callback counts as lost after this time.
pub(super) const EXIT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Counts {
    pub(super) exits: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
}

pub(super) struct Driver {
    pub(super) watcher: Watcher,
    exits: Exits,
    pub(super) random: fastrand::Rng,
    pub(super) surroundings: Surroundings,
    /// The cases that this machine allows.
    possible: Vec<(Case, &'static str)>,
    /// Errors that callbacks and cases found.
    pub(super) wrong: Arc<AtomicU64>,
    pub(super) jobs: VecDeque<Job>,
    /// Exits that were fetched from the queue before their job was finished.
    fetched: HashMap<u64, Exit>,
    /// What the queue is expected to deliver, by tag.
    expected: HashMap<u64, (Pid, Expected)>,
    pub(super) cases: BTreeMap<&'static str, u64>,
    /// The number of children with each attribute.
    pub(super) attributes: BTreeMap<&'static str, u64>,
    pub(super) count: Counts,
}

impl Driver {
    pub(super) fn new(workers: usize, options: &SoakOptions) -> Result<Self> {
        let surroundings = Surroundings::new()?;
        // Descendants become children of this process, so that none can be left unnoticed.
        let watcher = Watcher::builder().workers(workers).subreaper(true).build();
        let watcher = watcher.context("building the watcher")?;
        let is_possible = |case| case != Case::Leftover || surroundings.pool.is_ok();
        let possible = CASES.into_iter().filter(|(case, _)| is_possible(*case));
        Ok(Self {
            exits: watcher.exits(options.concurrency as usize)?,
            watcher,
            possible: possible.collect(),
            surroundings,
            random: fastrand::Rng::with_seed(options.seed),
            wrong: Arc::default(),
            jobs: VecDeque::new(),
            fetched: HashMap::new(),
            expected: HashMap::new(),
            cases: BTreeMap::new(),
            attributes: BTreeMap::new(),
            count: Counts::default(),
        })
    }

    /// The number of children that are not finished.
    pub(super) fn running(&self) -> u64 {
        self.jobs.len() as u64
    }

    /// Ends the watcher and all that belongs to it. Returns the number of things that were wrong:
    /// deliveries with another process or status, and what the cases check.
    pub(super) fn end(self) -> u64 {
        let wrong = Arc::clone(&self.wrong);
        drop(self);
        wrong.load(Ordering::SeqCst)
    }

    /// Counts something wrong, and says what it is.
    pub(super) fn note_wrong(&self, what: &str) {
        eprintln!("loadgen: soak: {what}");
        self.wrong.fetch_add(1, Ordering::SeqCst);
    }

    /// The number of orphans that the watcher has reaped.
    pub(super) fn orphans(&self) -> u64 {
        self.watcher.stats().orphans
    }

    /// The directory of the cgroups, or why there are none.
    pub(super) fn cgroups(&self) -> Result<PathBuf, String> {
        match &self.surroundings.pool {
            Ok(pool) => Ok(pool.path()),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(super) fn descriptors(&self) -> u64 {
        self.watcher.stats().descriptors
    }

    /// Starts a random case. Returns whether it has a child with an exit.
    pub(super) fn start_one(&mut self, tag: u64) -> Result<bool> {
        let (case, name) = self.possible[self.random.usize(..self.possible.len())];
        *self.cases.entry(name).or_default() += 1;
        if case.has_command() {
            return self.start_command(case, tag);
        }
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
        job.queued = case == Case::Queue;
        self.apply(case, pid, signal, expected, &mut job)?;
        self.jobs.push_back(job);
        Ok(true)
    }

    /// Lets the queue deliver the exit of a job.
    pub(super) fn enqueue(&mut self, job: &mut Job, pid: Pid, expected: Expected) -> Result<()> {
        job.queued = true;
        self.expected.insert(job.tag, (pid, expected));
        Ok(self.exits.add(job.handle.child(), job.tag)?)
    }

    fn apply(
        &mut self,
        case: Case,
        pid: Pid,
        signal: i32,
        expected: Expected,
        job: &mut Job,
    ) -> Result<()> {
        if job.queued {
            self.enqueue(job, pid, expected)?;
            return Ok(());
        }
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
        self.check_after(&job)
    }

    /// Checks the processes that the child of a finished job has left.
    fn check_after(&self, job: &Job) -> Result<()> {
        match &job.after {
            After::Nothing => {}
            After::Tree(pipe) => {
                if !is_closed_soon(pipe) {
                    self.note_wrong("a process of a group outlives its deadline");
                }
            }
            After::Leftover => {
                let child = job.handle.child();
                child.kill_tree()?;
                let exit = child.exit();
                let report = exit.as_ref().and_then(Exit::cgroup);
                for pid in report.map_or(&[][..], exitring::CgroupReport::leftover) {
                    if !reap_killed(*pid) {
                        self.note_wrong("a process that was left in a cgroup was not killed");
                    }
                }
            }
        }
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
            check_exit(&tagged.exit, pid, expected, &self.wrong);
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

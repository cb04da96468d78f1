//! Keeps the children of a soak running, and checks what happened to each. `forks` and `commands`
//! start them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use exitring::{Exit, Exits, Pid, Watcher};

use super::case::{CASES, Case, Expected};
use super::job::{After, Job, check_exit};
use super::leftovers::{is_closed_soon, reap_killed};
use super::surroundings::Surroundings;
use crate::measure::interrupt::interrupted;
use crate::types::options::SoakOptions;

/// An exit or a callback counts as lost after this time.
pub(super) const EXIT_TIMEOUT: Duration = Duration::from_secs(30);
/// The time in which children can still be finished after an interrupt.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

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
    /// When an interrupt was noticed.
    interrupted: Option<Instant>,
    /// Whether children were given up after an interrupt. Nothing more is checked then.
    pub(super) gave_up: bool,
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
            interrupted: None,
            gave_up: false,
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
        match case.has_command() {
            true => self.start_command(case, tag),
            false => self.start_fork(case, tag),
        }
    }

    /// Lets the queue deliver the exit of a job.
    pub(super) fn enqueue(&mut self, job: &mut Job, pid: Pid, expected: Expected) -> Result<()> {
        job.queued = true;
        self.expected.insert(job.tag, (pid, expected));
        Ok(self.exits.add(job.handle.child(), job.tag)?)
    }

    /// Waits until everything has happened that is expected of the oldest child. Gives it up some time
    /// after an interrupt.
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
            if interrupted() {
                let noticed = self.interrupted.get_or_insert_with(Instant::now);
                if noticed.elapsed() > GRACE_PERIOD {
                    self.gave_up = true;
                    return Ok(());
                }
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

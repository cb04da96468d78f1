//! The soak: a long random mix of all that happens to processes and to those who watch them, with each exit, outcome
//! and callback accounted for.
//!
//! A window of children is under way at a time. The oldest is settled before the next is started: what
//! should have happened to it must have, exactly once.

mod acts;
mod child;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use exitring::{Cancel, Child, Exit, Exits, Pid, Watch, Watcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::acts::{ACTS, Act, Expected, SIGNALS};
use self::child::{Life, block_signals, fork, wait_for_zombie};
use super::Order;
use crate::clock::cpu_ns;
use crate::interrupt::interrupted;
use crate::latency::Latencies;
use crate::process::{anonymous_bytes, open_descriptors};
use crate::progress::progress_bar;
use crate::run::{Run, Soak, SoakSample};
use crate::tally::reap;

/// After that long without it, an exit or a callback is lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often memory and descriptors are looked at.
const SAMPLES: u64 = 40;
const PANIC: &str = "a callback of the soak panics";

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SoakOptions {
    /// How many children end
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) exits: u64,
    /// How many are under way at a time
    #[arg(long, value_name = "C", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) concurrency: u32,
    /// What the random choices grow from
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
}

impl SoakOptions {
    pub(super) fn concurrency(&self) -> u64 {
        self.concurrency.into()
    }
}

/// How often a callback ran; one of each child may be cancelled.
#[derive(Default)]
struct Ran {
    first: AtomicU32,
    second: AtomicU32,
}

/// What went wrong, counted where it is noticed.
#[derive(Default)]
struct Faults {
    wrong: AtomicU64,
}

enum Handle {
    Owned(Child),
    Watched(Watch),
    Gone,
}

/// A child under way.
struct Job {
    tag: u64,
    ran: Arc<Ran>,
    handle: Handle,
    /// Whether it comes out of the queue instead of running a callback.
    pulled: bool,
    /// What the second callback is to have run in the end.
    second: Option<u32>,
}

struct Soaker {
    watcher: Watcher,
    exits: Exits,
    random: fastrand::Rng,
    faults: Arc<Faults>,
    jobs: VecDeque<Job>,
    /// Fetched from the queue before their turn to be settled.
    pulled: HashMap<u64, Exit>,
    expected: HashMap<u64, (Pid, Expected)>,
    acts: BTreeMap<&'static str, u64>,
    latencies: Latencies,
    count: Counts,
}

#[derive(Default)]
struct Counts {
    exits: u64,
    lost: u64,
    duplicates: u64,
    wrong: u64,
}

pub(super) fn measure(order: &Order, options: &SoakOptions) -> Result<Run> {
    quiet_panics();
    block_signals();
    let mut soaker = Soaker::new(order.workers, options)?;
    let (start, cpu_before) = (Instant::now(), cpu_ns(None)?);
    let mut samples = Vec::new();
    let every = options.exits.div_ceil(SAMPLES).max(1);
    let bar = progress_bar(options.exits, "soaking");
    let mut started = 0;
    while started < options.exits && !interrupted() {
        if soaker.jobs.len() as u64 >= options.concurrency() {
            soaker.settle_oldest()?;
        }
        soaker.start_one(started)?;
        started += 1;
        bar.set_position(started);
        if started % every == 0 {
            samples.push(SoakSample {
                exits: soaker.count.exits,
                bytes: anonymous_bytes(None)?,
                descriptors: open_descriptors(None)?,
            });
        }
    }
    while !soaker.jobs.is_empty() {
        soaker.settle_oldest()?;
    }
    bar.finish_and_clear();

    let seconds = start.elapsed().as_secs_f64();
    let mut run = order.run();
    run.children = started;
    run.exits = soaker.count.exits;
    run.lost = soaker.count.lost;
    run.duplicates = soaker.count.duplicates + soaker.leftovers()?;
    run.wrong = soaker.count.wrong + soaker.faults.wrong.load(Ordering::SeqCst);
    run.cpu_ns_per_exit = (cpu_ns(None)? - cpu_before) / started.max(1);
    run.fds_held = soaker.watcher.stats().descriptors;
    run.children_per_s = Some(started as f64 / seconds);
    run.interrupted = interrupted();
    run.latencies(soaker.latencies)?;
    run.soak = Some(Soak {
        seconds,
        acts: soaker
            .acts
            .into_iter()
            .map(|(act, count)| (act.to_owned(), count))
            .collect(),
        samples,
    });
    Ok(run)
}

impl Soaker {
    fn new(workers: usize, options: &SoakOptions) -> Result<Self> {
        let watcher = Watcher::builder().workers(workers).build();
        let watcher = watcher.context("building the watcher")?;
        Ok(Self {
            exits: watcher.exits(options.concurrency as usize)?,
            watcher,
            random: fastrand::Rng::with_seed(options.seed),
            faults: Arc::default(),
            jobs: VecDeque::new(),
            pulled: HashMap::new(),
            expected: HashMap::new(),
            acts: BTreeMap::new(),
            latencies: Latencies::new()?,
            count: Counts::default(),
        })
    }

    fn start_one(&mut self, tag: u64) -> Result<()> {
        let (act, name) = ACTS[self.random.usize(..ACTS.len())];
        *self.acts.entry(name).or_default() += 1;
        let code = self.random.i32(0..256);
        let signal = SIGNALS[self.random.usize(..SIGNALS.len())];
        let (life, expected) = match act {
            Act::Kill => (Life::Pause, Expected::Signal(signal)),
            Act::Stop => (Life::Pause, Expected::Signal(signal)),
            Act::Deadline => (Life::Pause, Expected::ByDeadline),
            Act::ReapElsewhere | Act::Steal => (Life::Exit(code), Expected::CodeOrReaped(code)),
            _ => (Life::Exit(code), Expected::Code(code)),
        };
        let pid = fork(life)?;
        if act == Act::Late {
            wait_for_zombie(pid);
        }
        let handle = match act {
            Act::Watch | Act::ReapElsewhere => Handle::Watched(self.watcher.watch(pid)?),
            _ => Handle::Owned(self.watcher.adopt_pid(pid)?),
        };
        let mut job = Job {
            tag,
            ran: Arc::default(),
            handle,
            pulled: act == Act::Pull,
            second: None,
        };
        self.act(act, pid, signal, expected, &mut job)?;
        self.jobs.push_back(job);
        Ok(())
    }

    fn act(
        &mut self,
        act: Act,
        pid: Pid,
        signal: i32,
        expected: Expected,
        job: &mut Job,
    ) -> Result<()> {
        let (ran, faults) = (&job.ran, &self.faults);
        let watch: &Watch = match &job.handle {
            Handle::Owned(child) => child,
            Handle::Watched(watch) => watch,
            Handle::Gone => return Ok(()),
        };
        if act == Act::LateCallback && watch.wait_timeout(PATIENCE)?.is_none() {
            self.count.lost += 1;
        }
        // The first callback of all but those that are fetched.
        match act {
            Act::Pull => {
                self.expected.insert(job.tag, (pid, expected));
                self.exits.add(watch, job.tag)?;
            }
            Act::Watch => {
                let check = check(ran, faults, pid, expected);
                let faults = Arc::clone(faults);
                let Expected::Code(code) = expected else {
                    unreachable!("it exits")
                };
                watch.on_exit(move |exit| {
                    let reaped = reap(pid);
                    faults
                        .wrong
                        .fetch_add(u64::from(reaped != Some(code)), Ordering::SeqCst);
                    check(exit);
                })?;
            }
            Act::Panic => {
                let check = check(ran, faults, pid, expected);
                watch.on_exit(move |exit| {
                    check(exit);
                    std::panic::panic_any(PANIC);
                })?;
            }
            _ => drop(watch.on_exit(check(ran, faults, pid, expected))?),
        }
        let second = {
            let ran = Arc::clone(ran);
            move |_: &Exit| {
                ran.second.fetch_add(1, Ordering::SeqCst);
            }
        };
        match act {
            Act::Kill => watch_child(&job.handle).signal(signal)?,
            Act::Stop => {
                let child = watch_child(&job.handle);
                child.signal(libc::SIGSTOP)?;
                child.signal(libc::SIGCONT)?;
                child.signal(signal)?;
            }
            Act::Deadline => {
                let after = Duration::from_micros(self.random.u64(0..2000));
                watch_child(&job.handle).deadline(after, Duration::from_millis(20))?;
            }
            // Whoever is first gets it.
            Act::ReapElsewhere | Act::Steal => {
                if self.random.bool() {
                    std::thread::yield_now();
                }
                // SAFETY: no pointers but null. Only this thread forks, so the number is nobody else's yet.
                unsafe { libc::waitpid(pid.as_raw(), std::ptr::null_mut(), 0) };
            }
            Act::Panic => {
                watch.on_exit(second)?;
                job.second = Some(1);
            }
            Act::Cancel => {
                let id = watch.on_exit(second)?;
                match self.random.u8(0..3) {
                    0 => {}
                    1 => std::thread::yield_now(),
                    _ => _ = watch.wait_timeout(PATIENCE)?,
                }
                let cancelled = watch.cancel(id);
                // What cancel says holds from when it returns.
                let should = u32::from(cancelled != Cancel::Cancelled);
                let has = ran.second.load(Ordering::SeqCst);
                faults
                    .wrong
                    .fetch_add(u64::from(has != should), Ordering::SeqCst);
                job.second = Some(should);
            }
            Act::Drop => job.handle = Handle::Gone,
            _ => {}
        }
        Ok(())
    }

    /// Waits until all has happened to the oldest that is to happen.
    fn settle_oldest(&mut self) -> Result<()> {
        let Some(job) = self.jobs.pop_front() else {
            return Ok(());
        };
        let start = Instant::now();
        let wanted = (u32::from(!job.pulled), job.second.unwrap_or(0));
        loop {
            self.fetch()?;
            let ran = || {
                (
                    job.ran.first.load(Ordering::SeqCst),
                    job.ran.second.load(Ordering::SeqCst),
                )
            };
            let (first, second) = ran();
            let here = !job.pulled || self.pulled.contains_key(&job.tag);
            if first >= wanted.0 && second >= wanted.1 && here {
                break;
            }
            if start.elapsed() > PATIENCE {
                self.count.lost += 1;
                eprintln!(
                    "loadgen: soak: child {} of {wanted:?} callbacks ran {:?}",
                    job.tag,
                    ran()
                );
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        let (first, second) = (&job.ran.first, &job.ran.second);
        let surplus =
            first.load(Ordering::SeqCst) - wanted.0 + second.load(Ordering::SeqCst) - wanted.1;
        self.count.duplicates += u64::from(surplus);
        self.pulled.remove(&job.tag);
        self.count.exits += 1;
        Ok(())
    }

    /// Takes what is ready in the queue.
    fn fetch(&mut self) -> Result<()> {
        for tagged in self.exits.try_iter() {
            let tagged = tagged?;
            let Some((pid, expected)) = self.expected.remove(&tagged.tag) else {
                self.count.duplicates += 1;
                continue;
            };
            let right = tagged.exit.pid() == pid && expected.fits(&tagged.exit);
            self.count.wrong += u64::from(!right);
            self.pulled.insert(tagged.tag, tagged.exit);
        }
        Ok(())
    }

    /// What comes though nothing is to come any more.
    fn leftovers(&mut self) -> Result<u64> {
        let before = self.count.duplicates;
        self.fetch()?;
        Ok(self.count.duplicates - before + self.pulled.len() as u64)
    }
}

fn watch_child(handle: &Handle) -> &Child {
    match handle {
        Handle::Owned(child) => child,
        _ => unreachable!("acts with signals own their child"),
    }
}

/// A callback that checks what it is told and counts itself.
fn check(
    ran: &Arc<Ran>,
    faults: &Arc<Faults>,
    pid: Pid,
    expected: Expected,
) -> impl FnOnce(&Exit) + Send + use<> {
    let (ran, faults) = (Arc::clone(ran), Arc::clone(faults));
    move |exit| {
        let right = exit.pid() == pid && expected.fits(exit);
        faults.wrong.fetch_add(u64::from(!right), Ordering::SeqCst);
        ran.first.fetch_add(1, Ordering::SeqCst);
    }
}

/// Panics that are meant to be say nothing.
fn quiet_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
            before(info);
        }
    }));
}

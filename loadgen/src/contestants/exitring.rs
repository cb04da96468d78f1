//! exitring with a callback per child. The watcher owns and reaps the children, or it only watches
//! them and the callback reaps. Output is read by threads that block in `Child::wait_with_output`.
//!
//! Owned programs are started with `exitring::Command` and one copy of the environment, or in
//! another way to compare with ([`Starter`]). Children that do not execute a program need the
//! `pre_exec` closure of the standard library's `Command`, and so do all children that are only
//! watched.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use exitring::{Builder, Child, Exit, Outcome, Pid, Stats, Watch, Watcher};

use super::contestant::Contestant;
use super::job_threads::JobThreads;
use super::registration;
use super::starter::Starter;
use crate::measure::program::Program;
use crate::measure::recorder::{Delivery, Recorder, code_with_output, reap};
use crate::measure::spawn_request::SpawnRequest;

/// The stages are recorded for one exit in so many, as that takes time, and others record none.
const STAGES_EVERY: usize = 4;

/// The part of the program that reaps the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaper {
    Watcher,
    Callback,
}

pub(crate) struct Exitring {
    recorder: Arc<Recorder>,
    /// Dropped before the watcher.
    capturing: Option<JobThreads>,
    watcher: Arc<Watcher>,
    reaper: Reaper,
    starter: Starter,
}

enum Handle {
    Owned(Child),
    Watched(Watch),
}

impl Deref for Handle {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        match self {
            Self::Owned(child) => child,
            Self::Watched(watch) => watch,
        }
    }
}

impl Exitring {
    pub(crate) fn new(
        builder: Builder,
        reaper: Reaper,
        starter: Starter,
        recorder: Arc<Recorder>,
    ) -> Result<Self> {
        Ok(Self {
            recorder,
            capturing: None,
            watcher: Arc::new(builder.build().context("building the watcher")?),
            reaper,
            starter,
        })
    }

    /// Starts the threads that [`capture`](Contestant::capture) uses.
    pub(crate) fn with_capturing_threads(mut self, threads: usize) -> Result<Self> {
        self.capturing = Some(JobThreads::new(threads)?);
        Ok(self)
    }

    /// Adds the callback. The caller may drop the handle afterwards; the callback runs anyway.
    fn add_callback(&self, watch: &Watch, index: usize) -> Result<()> {
        let reaper = self.reaper;
        let recorder = Arc::clone(&self.recorder);
        watch.on_exit(move |exit| {
            let delivery = Delivery::begin(index);
            let code = code_of(exit).filter(|code| match reaper {
                Reaper::Watcher => true,
                Reaper::Callback => reap(exit.pid()) == Some(*code),
            });
            if index.is_multiple_of(STAGES_EVERY) {
                // After the time was taken.
                let delivery = delivery.known_now();
                let now = Instant::now();
                let queued = exit.queued_at().map(|at| now - at);
                delivery.stages(&recorder, now - exit.seen_at(), queued);
                delivery.end(&recorder, exit.pid(), code);
            } else {
                delivery.end(&recorder, exit.pid(), code);
            }
        })?;
        Ok(())
    }
}

impl Contestant for Exitring {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let watch = match self.reaper {
            Reaper::Watcher => Handle::Owned(self.watcher.adopt_pid(pid)?),
            Reaper::Callback => Handle::Watched(self.watcher.watch(pid)?),
        };
        self.add_callback(&watch, index)
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        let watch = match self.reaper {
            Reaper::Watcher => Handle::Owned(match request {
                SpawnRequest::Program { index, program } => {
                    self.starter.start(&self.watcher, program, *index, false)?
                }
                SpawnRequest::Child { .. } => self.watcher.spawn(&mut request.command())?,
            }),
            Reaper::Callback => {
                Handle::Watched(self.watcher.watch(request.command().spawn()?.id())?)
            }
        };
        self.add_callback(&watch, request.index())?;
        Ok(Some(watch.pid()))
    }

    fn capture(&mut self, index: usize, program: &Arc<Program>) -> Result<Option<Pid>> {
        let threads = self
            .capturing
            .as_ref()
            .context("there are no threads for output")?;
        let (recorder, program) = (Arc::clone(&self.recorder), Arc::clone(program));
        let (watcher, starter) = (Arc::clone(&self.watcher), self.starter.clone());
        threads.run(move || {
            let child = starter.start(&watcher, &program, index, true)?;
            recorder.spawned(index, child.pid());
            let output = child.wait_with_output()?;
            let delivery = Delivery::begin(index);
            let code = code_with_output(&program, &output.stdout, code_of(&output.exit));
            delivery.end(&recorder, output.exit.pid(), code);
            Ok(())
        });
        Ok(None)
    }

    fn watch_without_callback(&mut self, pid: Pid, count: usize) -> Result<Box<dyn Any>> {
        let watches: Result<Vec<Watch>, _> = (0..count).map(|_| self.watcher.watch(pid)).collect();
        Ok(Box::new(watches?))
    }

    /// Waits for the ring thread, which registers watches asynchronously.
    fn wait_until_registered(&mut self) -> Result<()> {
        let is_complete = || {
            let stats = self.watcher.stats();
            stats.armed == stats.watched
        };
        registration::wait_until(is_complete).with_context(|| format!("{:?}", self.watcher.stats()))
    }

    fn shuts_down(&self) -> bool {
        true
    }

    fn stats(&self) -> Option<Stats> {
        Some(self.watcher.stats())
    }
}

fn code_of(exit: &Exit) -> Option<i32> {
    match exit.outcome() {
        Outcome::Exited(code) => Some(code),
        _ => None,
    }
}

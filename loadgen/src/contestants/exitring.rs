//! exitring itself, with a callback for each child: children that it owns and reaps, or children that it
//! only watches and the callback reaps.

use std::any::Any;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use exitring::{Backend, Child, Exit, Outcome, Pid, Stats, Watch, Watcher};

use super::Contestant;
use crate::start::Start;
use crate::tally::{Delivery, Tally, reap};

/// Whose the children are to reap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaper {
    Watcher,
    Callback,
}

pub(crate) struct Exitring {
    tally: Arc<Tally>,
    watcher: Watcher,
    reaper: Reaper,
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
        backend: Backend,
        workers: usize,
        reaper: Reaper,
        tally: Arc<Tally>,
    ) -> Result<Self> {
        let builder = Watcher::builder().backend(backend).workers(workers);
        Ok(Self {
            tally,
            watcher: builder.build().context("building the watcher")?,
            reaper,
        })
    }

    /// The handle is let go of afterwards: callbacks run all the same.
    fn call_back(&self, watch: &Watch, index: usize) -> Result<()> {
        let reaper = self.reaper;
        let tally = Arc::clone(&self.tally);
        watch.on_exit(move |exit| {
            let delivery = Delivery::begin(index);
            let now = Instant::now();
            let queued = exit.queued_at().map(|at| now - at);
            delivery.stages(&tally, now - exit.seen_at(), queued);
            let code = code_of(exit).filter(|code| match reaper {
                Reaper::Watcher => true,
                Reaper::Callback => reap(exit.pid()) == Some(*code),
            });
            delivery.end(&tally, exit.pid(), code);
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
        self.call_back(&watch, index)
    }

    fn spawn(&mut self, start: &Start) -> Result<()> {
        let watch = match self.reaper {
            Reaper::Watcher => Handle::Owned(self.watcher.spawn(&mut start.command())?),
            Reaper::Callback => Handle::Watched(self.watcher.watch(start.command().spawn()?.id())?),
        };
        self.call_back(&watch, start.index())
    }

    fn unheeded(&mut self, pid: Pid, count: usize) -> Result<Box<dyn Any>> {
        let watches: Result<Vec<Watch>, _> = (0..count).map(|_| self.watcher.watch(pid)).collect();
        Ok(Box::new(watches?))
    }

    /// Registration is done behind the caller's back.
    fn settle(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let stats = self.watcher.stats();
            if stats.armed == stats.watched {
                return Ok(());
            }
            ensure!(
                start.elapsed() < Duration::from_secs(10),
                "not all watches are armed after 10 s: {stats:?}"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
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

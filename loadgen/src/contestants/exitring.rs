//! exitring itself, with a callback for each child: children that it owns and reaps, or children that it
//! only watches and the callback reaps.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exitring::{Child, Exit, Outcome, Pid, Watch, Watcher};

use super::Contestant;
use crate::tally::{Delivery, Tally, reap};

/// Whose the children are to reap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaper {
    Watcher,
    Callback,
}

pub(crate) struct Exitring {
    watches: Vec<Handle>,
    watcher: Watcher,
    workers: usize,
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
    pub(crate) fn new(workers: usize, reaper: Reaper) -> Result<Self> {
        Ok(Self {
            watches: Vec::new(),
            watcher: Watcher::builder()
                .workers(workers)
                .build()
                .context("building the watcher")?,
            workers,
            reaper,
        })
    }

    fn begin(&self, pid: Pid) -> Result<Handle> {
        Ok(match self.reaper {
            Reaper::Watcher => Handle::Owned(self.watcher.adopt_pid(pid)?),
            Reaper::Callback => Handle::Watched(self.watcher.watch(pid)?),
        })
    }

    /// Registration is done behind the caller's back; the storm is to hit a watcher at rest.
    fn wait_until_armed(&self) -> Result<()> {
        let all = self.watches.len() as u64;
        for _ in 0..1000 {
            if self.watcher.stats().armed == all {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let stats = self.watcher.stats();
        ensure!(
            stats.armed == all,
            "the watcher has not armed all {all} watches after 10 s: {stats:?}"
        );
        Ok(())
    }
}

impl Contestant for Exitring {
    fn name(&self) -> String {
        let what = match self.reaper {
            Reaper::Watcher => "owned",
            Reaper::Callback => "watched",
        };
        format!("exitring, {what}, workers({})", self.workers)
    }

    fn watch_all(&mut self, tally: &Arc<Tally>) -> Result<()> {
        let reaper = self.reaper;
        for (index, &pid) in tally.children.pids().iter().enumerate() {
            let watch = self
                .begin(pid)
                .with_context(|| format!("watching child {}", index + 1))?;
            let tally = Arc::clone(tally);
            watch.on_exit(move |exit| {
                let delivery = Delivery::begin(index);
                let code = code_of(exit).filter(|code| match reaper {
                    Reaper::Watcher => true,
                    Reaper::Callback => reap(exit.pid()) == Some(*code),
                });
                delivery.end(&tally, exit.pid(), code);
            })?;
            self.watches.push(watch);
        }
        self.wait_until_armed()
    }
}

fn code_of(exit: &Exit) -> Option<i32> {
    match exit.outcome() {
        Outcome::Exited(code) => Some(code),
        _ => None,
    }
}

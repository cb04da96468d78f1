//! exitring itself: a watch and a callback for each child, which reads no status again but
//! reaps the child.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exitring::{Outcome, Watch, Watcher};

use super::Contestant;
use crate::tally::{Delivery, Tally, reap};

pub(crate) struct Exitring {
    watches: Vec<Watch>,
    watcher: Watcher,
    workers: usize,
}

impl Exitring {
    pub(crate) fn new(workers: usize) -> Result<Self> {
        Ok(Self {
            watches: Vec::new(),
            watcher: Watcher::builder()
                .workers(workers)
                .build()
                .context("building the watcher")?,
            workers,
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
        format!("exitring, workers({})", self.workers)
    }

    fn watch_all(&mut self, tally: &Arc<Tally>) -> Result<()> {
        for (index, &pid) in tally.children.pids().iter().enumerate() {
            let watch = self
                .watcher
                .watch(pid)
                .with_context(|| format!("watching child {}", index + 1))?;
            let tally = Arc::clone(tally);
            watch.on_exit(move |exit| {
                let delivery = Delivery::begin(index);
                let code = match exit.outcome() {
                    Outcome::Exited(code) => Some(code),
                    _ => None,
                };
                let reaped = reap(exit.pid());
                delivery.end(&tally, exit.pid(), code.filter(|_| reaped == code));
            })?;
            self.watches.push(watch);
        }
        self.wait_until_armed()
    }
}

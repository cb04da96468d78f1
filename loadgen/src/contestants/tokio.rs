//! tokio::process: a task for each child, on a runtime of one thread. It starts its children itself.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use exitring::Pid;
use tokio::runtime::{Builder, Handle};

use super::Contestant;
use crate::start::Start;
use crate::tally::{Delivery, Tally};

pub(crate) struct Tokio {
    tally: Arc<Tally>,
    runtime: Handle,
}

impl Tokio {
    pub(crate) fn new(tally: Arc<Tally>) -> Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .context("building a runtime")?;
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("tokio".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .context("starting a thread")?;
        Ok(Self {
            tally,
            runtime: handle,
        })
    }
}

impl Contestant for Tokio {
    fn watch(&mut self, _: Pid, _: usize) -> Result<()> {
        bail!("tokio watches only what it starts itself")
    }

    fn spawn(&mut self, start: &Start) -> Result<()> {
        let _within = self.runtime.enter();
        let mut child = tokio::process::Command::from(start.command()).spawn()?;
        let pid = child.id().context("it has not been waited for")?;
        let pid = Pid::try_from(pid)?;
        let (tally, index) = (Arc::clone(&self.tally), start.index());
        self.runtime.spawn(async move {
            let status = child.wait().await;
            let delivery = Delivery::begin(index);
            delivery.end(&tally, pid, status.ok().and_then(|status| status.code()));
        });
        Ok(())
    }

    /// Its tasks have all been polled once.
    fn settle(&mut self) -> Result<()> {
        let (done, when_done) = std::sync::mpsc::channel();
        self.runtime.spawn(async move { done.send(()) });
        when_done.recv().context("the runtime has ended")
    }
}

//! async-process: a task for each child, on an executor of one thread. It starts its children itself.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_executor::Executor;
use exitring::Pid;

use super::Contestant;
use crate::start::Start;
use crate::tally::{Delivery, Tally};

pub(crate) struct AsyncProcess {
    tally: Arc<Tally>,
    executor: Arc<Executor<'static>>,
}

impl AsyncProcess {
    pub(crate) fn new(tally: Arc<Tally>) -> Result<Self> {
        let executor = Arc::new(Executor::new());
        let for_thread = Arc::clone(&executor);
        std::thread::Builder::new()
            .name("async-process".into())
            .spawn(move || {
                let forever = for_thread.run(std::future::pending::<()>());
                futures_lite::future::block_on(forever);
            })
            .context("starting a thread")?;
        Ok(Self { tally, executor })
    }
}

impl Contestant for AsyncProcess {
    fn watch(&mut self, _: Pid, _: usize) -> Result<()> {
        bail!("async-process watches only what it starts itself")
    }

    fn spawn(&mut self, start: &Start) -> Result<()> {
        let mut child = async_process::Command::from(start.command()).spawn()?;
        let pid = Pid::try_from(child.id())?;
        let (tally, index) = (Arc::clone(&self.tally), start.index());
        let task = self.executor.spawn(async move {
            let status = child.status().await;
            let delivery = Delivery::begin(index);
            delivery.end(&tally, pid, status.ok().and_then(|status| status.code()));
        });
        task.detach();
        Ok(())
    }

    /// Its tasks have all been polled once.
    fn settle(&mut self) -> Result<()> {
        let (done, when_done) = std::sync::mpsc::channel();
        self.executor.spawn(async move { done.send(()) }).detach();
        when_done.recv().context("the executor has ended")
    }
}

//! `async-process`: a task per child on an executor with one thread. It starts children itself.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_executor::Executor;
use exitring::Pid;

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder};
use crate::measure::spawn_request::SpawnRequest;

pub(crate) struct AsyncProcess {
    recorder: Arc<Recorder>,
    executor: Arc<Executor<'static>>,
}

impl AsyncProcess {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Result<Self> {
        let executor = Arc::new(Executor::new());
        let for_thread = Arc::clone(&executor);
        std::thread::Builder::new()
            .name("async-process".into())
            .spawn(move || {
                let forever = for_thread.run(std::future::pending::<()>());
                futures_lite::future::block_on(forever);
            })
            .context("starting a thread")?;
        Ok(Self { recorder, executor })
    }
}

impl Contestant for AsyncProcess {
    fn watch(&mut self, _: Pid, _: usize) -> Result<()> {
        bail!("async-process watches only children that it starts itself")
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<()> {
        let mut child = async_process::Command::from(request.command()).spawn()?;
        let pid = Pid::try_from(child.id())?;
        let (recorder, index) = (Arc::clone(&self.recorder), request.index());
        let task = self.executor.spawn(async move {
            let status = child.status().await;
            let delivery = Delivery::begin(index);
            delivery.end(&recorder, pid, status.ok().and_then(|status| status.code()));
        });
        task.detach();
        Ok(())
    }

    /// Waits until all tasks were polled once.
    fn wait_until_registered(&mut self) -> Result<()> {
        let (done, when_done) = std::sync::mpsc::channel();
        self.executor.spawn(async move { done.send(()) }).detach();
        when_done.recv().context("the executor has ended")
    }
}

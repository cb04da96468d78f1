//! `tokio::process`: a task per child on a runtime with one thread. It starts children itself.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use exitring::Pid;
use tokio::runtime::{Builder, Handle};

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder};
use crate::measure::spawn_request::SpawnRequest;

pub(crate) struct Tokio {
    recorder: Arc<Recorder>,
    runtime: Handle,
}

impl Tokio {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Result<Self> {
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
            recorder,
            runtime: handle,
        })
    }
}

impl Contestant for Tokio {
    fn watch(&mut self, _: Pid, _: usize) -> Result<()> {
        bail!("tokio watches only children that it starts itself")
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<()> {
        let _within = self.runtime.enter();
        let mut child = tokio::process::Command::from(request.command()).spawn()?;
        let pid = child.id().context("the child was reaped before")?;
        let pid = Pid::try_from(pid)?;
        let (recorder, index) = (Arc::clone(&self.recorder), request.index());
        self.runtime.spawn(async move {
            let status = child.wait().await;
            let delivery = Delivery::begin(index);
            delivery.end(&recorder, pid, status.ok().and_then(|status| status.code()));
        });
        Ok(())
    }

    /// Waits until all tasks were polled once.
    fn wait_until_registered(&mut self) -> Result<()> {
        let (done, when_done) = std::sync::mpsc::channel();
        self.runtime.spawn(async move { done.send(()) });
        when_done.recv().context("the runtime has ended")
    }
}

//! `tokio::process`: a task per child on a runtime with one thread. It starts children itself.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use exitring::Pid;
use tokio::runtime::{Builder, Handle};

use super::contestant::Contestant;
use crate::measure::program::Program;
use crate::measure::recorder::{Delivery, Recorder, code_with_output};
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

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
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
        Ok(Some(pid))
    }

    fn capture(&mut self, index: usize, program: &Arc<Program>) -> Result<Option<Pid>> {
        let _within = self.runtime.enter();
        let mut command = tokio::process::Command::from(program.command(index));
        let child = command.stdout(Stdio::piped()).spawn()?;
        let pid = child.id().context("the child was reaped before")?;
        let pid = Pid::try_from(pid)?;
        let (recorder, program) = (Arc::clone(&self.recorder), Arc::clone(program));
        self.runtime.spawn(async move {
            let output = child.wait_with_output().await;
            let delivery = Delivery::begin(index);
            let code = output.ok().and_then(|output| {
                code_with_output(&program, &output.stdout, output.status.code())
            });
            delivery.end(&recorder, pid, code);
        });
        Ok(Some(pid))
    }

    /// Waits until all tasks were polled once.
    fn wait_until_registered(&mut self) -> Result<()> {
        let (done, when_done) = std::sync::mpsc::channel();
        self.runtime.spawn(async move { done.send(()) });
        when_done.recv().context("the runtime has ended")
    }
}

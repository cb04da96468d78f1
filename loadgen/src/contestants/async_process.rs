//! `async-process`: a task per child on an executor with one thread. It starts children itself.

use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_executor::Executor;
use exitring::Pid;

use super::contestant::Contestant;
use crate::measure::program::Program;
use crate::measure::recorder::{Delivery, Recorder, code_with_output};
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

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        let mut child = async_process::Command::from(request.command()).spawn()?;
        let pid = Pid::try_from(child.id())?;
        let (recorder, index) = (Arc::clone(&self.recorder), request.index());
        let task = self.executor.spawn(async move {
            let status = child.status().await;
            let delivery = Delivery::begin(index);
            delivery.end(&recorder, pid, status.ok().and_then(|status| status.code()));
        });
        task.detach();
        Ok(Some(pid))
    }

    fn capture(&mut self, index: usize, program: &Arc<Program>) -> Result<Option<Pid>> {
        let mut command = async_process::Command::from(program.command(index));
        let child = command.stdout(Stdio::piped()).spawn()?;
        let pid = Pid::try_from(child.id())?;
        let (recorder, program) = (Arc::clone(&self.recorder), Arc::clone(program));
        let task = self.executor.spawn(async move {
            let output = child.output().await;
            let delivery = Delivery::begin(index);
            let code = output.ok().and_then(|output| {
                code_with_output(&program, &output.stdout, output.status.code())
            });
            delivery.end(&recorder, pid, code);
        });
        task.detach();
        Ok(Some(pid))
    }

    /// Waits until all tasks were polled once.
    fn wait_until_registered(&mut self) -> Result<()> {
        let (done, when_done) = std::sync::mpsc::channel();
        self.executor.spawn(async move { done.send(()) }).detach();
        when_done.recv().context("the executor has ended")
    }
}

//! `async-process`: a task per child on an executor. Its thread also waits for the descriptors and
//! drives the crate, which has a thread of its own otherwise. (async-io always starts a thread that
//! steps in for such threads; it sleeps.) It starts children itself.

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
            .spawn(move || async_io::block_on(for_thread.run(async_process::driver())))
            .context("starting a thread")?;
        let mut new = Self { recorder, executor };
        // The first child would start the crate's thread if the driver did not run by then.
        new.wait_until_registered()?;
        Ok(new)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    /// The names of this process's threads.
    fn threads() -> Vec<String> {
        let tasks = fs::read_dir("/proc/self/task").expect("there is /proc");
        // A thread of another test may end meanwhile.
        let names =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    #[test]
    fn one_thread_drives_everything() {
        let recorder = Recorder::new(2, Duration::ZERO).expect("there is memory");
        let mut contestant = AsyncProcess::new(Arc::clone(&recorder)).expect("it is made");
        let program = Program::that_exits(None).expect("it runs");
        for index in 0..2 {
            recorder.table.slots()[index].prepare_exec(program.code(index), 1);
            let program = Arc::clone(&program);
            let request = SpawnRequest::Program { index, program };
            contestant.spawn(&request).expect("it starts");
        }
        assert!(recorder.wait_for(2, |_| ()));
        assert_eq!(recorder.wrong(), 0);
        // The crate's own thread has the same name.
        let drivers = threads().into_iter().filter(|name| name == "async-process");
        assert_eq!(drivers.count(), 1);
    }
}

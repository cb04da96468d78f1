//! The standard library alone: the calling thread starts a child with `Command::spawn`, and waits
//! for it. The call of the spawn is nothing else.

use std::sync::Arc;

use anyhow::Result;
use exitring::Pid;

use super::contestant::Contestant;
use super::forked_children::{ForkedChildren, wait};
use crate::measure::recorder::Recorder;
use crate::measure::spawn_request::SpawnRequest;

pub(crate) struct StdSpawn {
    recorder: Arc<Recorder>,
    forked: ForkedChildren,
    /// The child that was started last, if it was not waited for.
    started: Option<(Pid, usize)>,
}

impl StdSpawn {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Result<Self> {
        Ok(Self {
            forked: ForkedChildren::new(Arc::clone(&recorder))?,
            recorder,
            started: None,
        })
    }
}

impl Contestant for StdSpawn {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        self.forked.add(pid, index)
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        let pid = Pid::try_from(request.command().spawn()?.id())?;
        self.started = Some((pid, request.index()));
        Ok(Some(pid))
    }

    fn wait_in_caller(&mut self) {
        if let Some((pid, index)) = self.started.take() {
            wait(&self.recorder, pid, index);
        }
    }
}

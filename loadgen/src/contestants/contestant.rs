//! The interface of a contestant.

use std::any::Any;
use std::sync::Arc;

use anyhow::{Result, bail};
use exitring::{Pid, Stats};

use crate::measure::program::Program;
use crate::measure::spawn_request::SpawnRequest;

/// A way to learn that children have ended.
///
/// A contestant reports each exit with its status to the recorder, and reaps the child. It does so
/// as fast as it can, without help from the scenario.
pub(crate) trait Contestant {
    /// Watches a child that was forked before. `index` is the child's slot.
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()>;

    /// Starts a child and watches it. Returns its pid; `None` if another thread or process starts the
    /// child.
    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        let pid = Pid::try_from(request.command().spawn()?.id())?;
        self.watch(pid, request.index())?;
        Ok(Some(pid))
    }

    /// Whether [`spawn`](Self::spawn) returns when the child was started, so that its duration is
    /// that of the start. Otherwise another thread or process starts the child.
    fn starts_in_the_call(&self) -> bool {
        self.process().is_none()
    }

    /// Waits for the child that was started last, if this contestant waits in the calling thread.
    fn wait_in_caller(&mut self) {}

    /// Starts a child that executes a program, and reads its standard output to the end. Delivers
    /// the exit when both the output and the status are known. Returns what [`spawn`](Self::spawn)
    /// returns.
    fn capture(&mut self, _index: usize, _program: &Arc<Program>) -> Result<Option<Pid>> {
        bail!("this contestant reads no output")
    }

    /// Makes `count` watches of one child without callbacks. Dropping the result drops the watches.
    fn watch_without_callback(&mut self, _pid: Pid, _count: usize) -> Result<Box<dyn Any>> {
        bail!("this contestant has no watches without a callback")
    }

    /// Waits until all children are watched that were passed to this contestant.
    fn wait_until_registered(&mut self) -> Result<()> {
        Ok(())
    }

    /// The process whose CPU time, memory and descriptors count, if it is not this one.
    fn process(&self) -> Option<Pid> {
        None
    }

    /// Whether its drop ends its threads, and all that it still watches. The drop of others only
    /// releases a handle.
    fn shuts_down(&self) -> bool {
        false
    }

    /// The counters of exitring. Other contestants have none.
    fn stats(&self) -> Option<Stats> {
        None
    }
}

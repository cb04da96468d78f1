//! Who is measured: ways of learning that children ended, one file each.

mod async_process;
mod exitring;
mod external;
mod kind;
mod service;
mod shadow;
mod sigchld_scan;
mod thread_per_child;
mod tokio;
mod uring_waitid;
mod wait_loop;

use std::any::Any;
use std::sync::Arc;

use ::exitring::{Backend, Pid, Stats};
use anyhow::{Result, bail};

use self::exitring::{Exitring, Reaper};
pub(crate) use self::kind::Kind;
use crate::scenarios::Order;
use crate::start::Start;
use crate::tally::Tally;

/// A way of learning that children ended. It tells the tally of each exit, status included, and
/// reaps the child, as quickly as it can and without our help.
pub(crate) trait Contestant {
    /// Watches a child that was forked already, in the name of a slot.
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()>;

    /// Starts a child and watches it.
    fn spawn(&mut self, start: &Start) -> Result<()> {
        let child = start.command().spawn()?;
        self.watch(Pid::try_from(child.id())?, start.index())
    }

    /// So many watches of a child that nobody is to be notified of. Dropping the result gives them up.
    fn unheeded(&mut self, _pid: Pid, _count: usize) -> Result<Box<dyn Any>> {
        bail!("this contestant has no watches without a callback")
    }

    /// Returns when all that was handed in is watched.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// The process whose CPU, memory and descriptors are its own, if it is not this one.
    fn process(&self) -> Option<Pid> {
        None
    }

    /// For those that count what they do.
    fn stats(&self) -> Option<Stats> {
        None
    }
}

/// Makes a contestant, ready for children.
pub(crate) fn make(order: &Order, tally: &Arc<Tally>) -> Result<Box<dyn Contestant>> {
    let (kind, workers) = (order.kind, order.workers);
    if kind.is_service() {
        return Ok(Box::new(service::Service::new(order, tally)?));
    }
    let tally = Arc::clone(tally);
    Ok(match kind {
        Kind::Exitring => Box::new(Exitring::new(
            Backend::Auto,
            workers,
            Reaper::Watcher,
            tally,
        )?),
        Kind::ExitringInline => Box::new(Exitring::new(Backend::Auto, 0, Reaper::Watcher, tally)?),
        Kind::ExitringWatch => Box::new(Exitring::new(
            Backend::Auto,
            workers,
            Reaper::Callback,
            tally,
        )?),
        Kind::ExitringEpoll => Box::new(Exitring::new(Backend::Epoll, 0, Reaper::Watcher, tally)?),
        Kind::Shadow => Box::new(shadow::Shadow::new(tally)?),
        Kind::Tokio => Box::new(tokio::Tokio::new(tally)?),
        Kind::AsyncProcess => Box::new(async_process::AsyncProcess::new(tally)?),
        Kind::SigchldScan => Box::new(sigchld_scan::SigchldScan::new(tally)?),
        Kind::ThreadPerChild => Box::new(thread_per_child::ThreadPerChild::new(tally)),
        Kind::UringWaitid => Box::new(uring_waitid::UringWaitid::new(tally)?),
        Kind::PythonAsyncio | Kind::Node => Box::new(external::External::new(kind, tally)?),
        Kind::WaitLoop => Box::new(wait_loop::WaitLoop::new(tally)),
        Kind::Serve | Kind::ServePower => unreachable!("made above"),
    })
}

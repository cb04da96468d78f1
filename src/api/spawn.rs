//! Children that the watcher owns: spawned, or adopted.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process;
use std::sync::Arc;
use std::time::Instant;

use super::spawnable::{Spawn, Started};
use super::watch_permit::WatchPermit;
#[cfg(doc)]
use crate::Command;
use crate::api::child::Pipes;
use crate::error::{AdoptError, SpawnError, WatchError};
use crate::record::delivery_guard::DeliveryGuard;
use crate::record::orphan_reaper;
use crate::record::{Ownership, Record, WatchFor};
use crate::ring_thread::command::Registered;
use crate::shared::Shared;
use crate::spawn::starts::Start;
use crate::sys::{self, WaitResult, WaitTarget};
use crate::trace;
use crate::types::exit::{Outcome, Usage};
use crate::{Child, Pid, Watch, Watcher};

impl Watcher {
    /// Starts a command as a child that the watcher owns and reaps.
    ///
    /// The command is a [`Command`] of this crate or of the [standard library](process::Command),
    /// with all of its settings. The [`Child`] holds the pipes. Blocks until the program was
    /// executed or failed to be. A command of this crate needs no fork, nor the copy of page tables
    /// that comes with it; one of the standard library does without as long as it has no
    /// `pre_exec` closure, user, or group.
    ///
    /// If the call returns `Ok`, the child is watched, even if no descriptor is free: the ring
    /// thread keeps a spare descriptor to start watches with. A watch holds a descriptor for some
    /// milliseconds at most, and then none.
    ///
    /// The child inherits the signal mask of the calling thread. In a callback that is the mask of
    /// the thread that built the watcher.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] distinguishes faults of the command (not found, not executable) from
    /// resources that ran out; [`SpawnError::is_throttling`] reports whether a later attempt can
    /// succeed. If the watcher ends during the call, the child is killed and reaped
    /// ([`SpawnError::Watch`]).
    pub fn spawn<C: Spawn>(&self, command: &mut C) -> Result<Child, SpawnError> {
        self.shared.spawn(command)
    }

    /// Takes ownership of a child that the standard library started, whether it runs or has ended.
    ///
    /// A child that was already waited for is accepted as well. Its status is known then, but not
    /// its resource usage. With [`Builder::subreaper`](crate::Builder::subreaper), the child must not
    /// be in a process group that an owned child leads: it would be an orphan until the call. Does not
    /// block.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] returns the child to the caller.
    pub fn adopt(&self, mut std: process::Child) -> Result<Child, AdoptError> {
        let _start = self.shared.begin_start();
        let adopted = self.shared.child_permit().and_then(|permit| {
            let pid = Pid::try_from(std.id())?;
            let reads_usage = self.shared.settings.usage;
            let usage = reads_usage.then(|| usage_of_zombie(pid)).flatten();
            // Only `std` knows whether it has reaped the child, in which case the pid may already
            // belong to another process.
            match std.try_wait() {
                Ok(None) => {
                    let registered = self.shared.open_child(pid);
                    self.shared.register_child(permit, pid, registered)
                }
                Ok(Some(status)) => {
                    let outcome = Outcome::from_wait_status(status.into_raw());
                    // If `try_wait` has just reaped the zombie, the usage was the child's.
                    let usage = usage
                        .filter(|_| self.shared.settings.usage && usage_of_zombie(pid).is_none());
                    Ok(Child::new(self.ended_watch(permit, pid, outcome, usage)))
                }
                Err(_) => Err(WatchError::NoSuchProcess { pid }),
            }
        });
        match adopted {
            Ok(child) => Ok(child.with_pipes(Pipes::of(&mut std))),
            Err(source) => Err(AdoptError {
                child: Box::new(std),
                source,
            }),
        }
    }

    /// Takes ownership of a child of this process by its pid, for programs that fork on their own.
    ///
    /// No other code may reap the child, and no other watch may own it, of this watcher or another
    /// one. With [`Builder::subreaper`](crate::Builder::subreaper), the child must not be in a process
    /// group that an owned child leads: it would be an orphan until the call. Does not block.
    ///
    /// # Errors
    ///
    /// [`WatchError::NoSuchProcess`] if the pid is not a child of this process, or was reaped.
    /// [`WatchError::InvalidPid`] for zero and negative numbers. Other variants if a limit is
    /// reached or the watcher is closed.
    pub fn adopt_pid<P>(&self, pid: P) -> Result<Child, WatchError>
    where
        P: TryInto<Pid>,
        P::Error: Into<WatchError>,
    {
        let pid = pid.try_into().map_err(Into::into)?;
        let _start = self.shared.begin_start();
        let permit = self.shared.child_permit()?;
        let registered = match self.shared.open_child(pid) {
            Registered::Pid => match sys::waitid(WaitTarget::PeekPid(pid)) {
                Ok(WaitResult::Ended(..) | WaitResult::Pending) => Registered::Pid,
                _ => return Err(WatchError::NoSuchProcess { pid }),
            },
            registered => registered,
        };
        self.shared.register_child(permit, pid, registered)
    }

    /// A watch on a child that was already reaped, with its outcome and usage.
    fn ended_watch(
        &self,
        permit: WatchPermit<'_>,
        pid: Pid,
        outcome: Outcome,
        usage: Option<Usage>,
    ) -> Watch {
        // The watch never goes to the ring thread, so nothing else would return the permit.
        drop(permit);
        let record = Arc::new(Record::new(pid, Ownership::Owned, WatchFor::Exited));
        let guard = DeliveryGuard::new(Arc::clone(&record));
        let _no_callbacks = guard.finish(outcome, usage, Instant::now());
        Watch::new(Arc::clone(&self.shared), record)
    }
}

impl Shared {
    /// [`Watcher::spawn`], for all threads.
    pub(super) fn spawn<C: Spawn + ?Sized>(
        self: &Arc<Self>,
        command: &mut C,
    ) -> Result<Child, SpawnError> {
        let span = trace::spawn(command.program());
        let spawned = self.start(command);
        match &spawned {
            Ok(child) => span.spawned(child.id()),
            Err(error) => span.not_spawned(error),
        }
        spawned
    }

    fn start<C: Spawn + ?Sized>(self: &Arc<Self>, command: &mut C) -> Result<Child, SpawnError> {
        let permit = self.child_permit().map_err(SpawnError::Refused)?;
        let _start = self.begin_start();
        let pidfd = self.check_pidfds().is_ok();
        let started = match command.start(pidfd) {
            // New watches hold descriptors for a short time, which the ring thread can close.
            Err(SpawnError::NoDescriptors(_)) => {
                self.flush();
                command.start(pidfd)
            }
            started => started,
        };
        let Started {
            pid,
            pidfd,
            pipes,
            cgroup,
            kill_leftovers,
        } = started?;
        let cgroup = cgroup.map(Arc::new);
        let registered = match pidfd {
            Some(pidfd) if !self.mailbox.is_over_descriptor_budget() => Registered::Pidfd(pidfd),
            Some(_) => Registered::Pid,
            None => self.open_child(pid),
        };
        let record = Record::new(pid, Ownership::Owned, WatchFor::Exited);
        if let Some(cgroup) = &cgroup {
            record.set_cgroup(Arc::clone(cgroup), kill_leftovers);
        }
        let child = self
            .submit(permit, record, registered)
            .map(Child::new)
            .map_err(|error| {
                if let Some(cgroup) = &cgroup {
                    let _ = cgroup.kill();
                }
                orphan_reaper::kill(pid);
                SpawnError::Watch(error)
            })?;
        Ok(child.with_pipes(pipes))
    }

    /// Opens a pidfd of a child that is ours to reap, if that saves waking the ring thread.
    ///
    /// `Pid` otherwise, and if there is none, or it is not that of a child of this process: the
    /// ring thread tries again, and finds out why.
    fn open_child(&self, pid: Pid) -> Registered {
        if !self.mailbox.wants_pidfd_of_child() {
            return Registered::Pid;
        }
        let Ok(pidfd) = sys::pidfd_open(pid) else {
            return Registered::Pid;
        };
        match sys::waitid(WaitTarget::PeekPidfd(pidfd.as_fd())) {
            Ok(WaitResult::Pending) => Registered::Pidfd(pidfd),
            Ok(WaitResult::Ended(..)) => Registered::Ended(pidfd),
            Ok(WaitResult::NoChild) | Err(_) => Registered::Pid,
        }
    }

    /// Begins the start or the adoption of a child, if orphans are reaped.
    fn begin_start(&self) -> Option<Start<'_>> {
        self.settings.subreaper.then(|| self.starts.begin())
    }

    fn child_permit(&self) -> Result<WatchPermit<'_>, WatchError> {
        self.check_process()?;
        self.check_open()?;
        orphan_reaper::restart();
        WatchPermit::acquire(self)
    }

    fn register_child(
        self: &Arc<Self>,
        permit: WatchPermit<'_>,
        pid: Pid,
        registered: Registered,
    ) -> Result<Child, WatchError> {
        let record = Record::new(pid, Ownership::Owned, WatchFor::Exited);
        let watch = self.submit(permit, record, registered)?;
        Ok(Child::new(watch))
    }
}

/// The usage of a child that has ended and was not reaped.
fn usage_of_zombie(pid: Pid) -> Option<Usage> {
    match sys::waitid(WaitTarget::PeekPid(pid)) {
        Ok(WaitResult::Ended(_, usage)) => usage,
        _ => None,
    }
}

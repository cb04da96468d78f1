//! Children of the watcher's own: started, or taken over.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use crate::api::watcher::WatchPermit;
use crate::error::{AdoptError, SpawnError, WatchError};
use crate::record::orphan_reaper;
use crate::record::{Ownership, WatchFor};
use crate::sys::{self, WaitResult, WaitTarget};
use crate::types::exit::{Outcome, Usage};
use crate::{Child, Pid, Watcher};

impl Watcher {
    /// Starts a command as a child that the watcher owns and reaps.
    ///
    /// What the command says of arguments, environment, standard streams and so on holds, as for
    /// [`Command::spawn`], which it is started with; what was piped is in the [`Child`]. When this returns
    /// `Ok` the child is watched, whatever descriptors are left: the ring thread keeps one aside to begin a watch
    /// with, and the watch costs none. Blocks until the command was executed or could not be.
    ///
    /// The child blocks the signals that the calling thread blocks, which in a callback are those that the builder's thread
    /// blocked.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] tells apart what the command is to blame for (not found, not executable) and what
    /// ran out; [`SpawnError::is_throttling`] says if trying again later can help. If the watcher ends
    /// at the same moment, the child is killed and reaped ([`SpawnError::Watch`]).
    pub fn spawn(&self, command: &mut Command) -> Result<Child, SpawnError> {
        let place = self.child_permit().map_err(SpawnError::Refused)?;
        let spawned = command.spawn();
        let mut std = spawned.map_err(|error| SpawnError::from_spawn(command, error))?;
        let pid = Pid::try_from(std.id()).map_err(|error| SpawnError::Watch(error.into()))?;
        let child = self.own(place, pid).map_err(|error| {
            sys::kill_and_reap(pid);
            SpawnError::Watch(error)
        })?;
        Ok(child.with_pipes_of(&mut std))
    }

    /// Takes over a child that was started otherwise, running or ended, also if it was waited for already: then
    /// its status is known, and nothing else of it.
    ///
    /// # Errors
    ///
    /// [`AdoptError`] gives the child back.
    pub fn adopt(&self, mut std: std::process::Child) -> Result<Child, AdoptError> {
        let adopted = self.child_permit().and_then(|place| {
            let pid = Pid::try_from(std.id())?;
            let usage = usage_so_far(pid);
            // Only `std` knows whether it has reaped the child, and the pid is another's by now.
            match std.try_wait() {
                Ok(None) => self.own(place, pid),
                Ok(Some(status)) => {
                    let outcome = Outcome::from_wait_status(status.into_raw());
                    // If it was reaped just now, what was there before was its usage.
                    let usage = usage.filter(|_| usage_so_far(pid).is_none());
                    Ok(Child::new(self.ended(place, pid, outcome, usage)))
                }
                Err(_) => Err(WatchError::NoSuchProcess { pid }),
            }
        });
        match adopted {
            Ok(child) => Ok(child.with_pipes_of(&mut std)),
            Err(source) => Err(AdoptError {
                child: Box::new(std),
                source,
            }),
        }
    }

    /// Takes over a child of this process by its pid, for those who fork themselves. It must be
    /// nobody else's to reap, of this or another watcher neither.
    ///
    /// # Errors
    ///
    /// [`WatchError::NoSuchProcess`] if it is no child of this process, or was reaped; and as
    /// [`watch`](Self::watch).
    pub fn adopt_pid<P>(&self, pid: P) -> Result<Child, WatchError>
    where
        P: TryInto<Pid>,
        P::Error: Into<WatchError>,
    {
        let pid = pid.try_into().map_err(Into::into)?;
        let place = self.child_permit()?;
        match sys::waitid(WaitTarget::LookAtChild(pid)) {
            Ok(WaitResult::Ended(..) | WaitResult::NotYet) => self.own(place, pid),
            _ => Err(WatchError::NoSuchProcess { pid }),
        }
    }

    fn child_permit(&self) -> Result<WatchPermit<'_>, WatchError> {
        self.check()?;
        orphan_reaper::restart();
        WatchPermit::reserve(&self.shared)
    }

    fn own(&self, place: WatchPermit<'_>, pid: Pid) -> Result<Child, WatchError> {
        let watch = self.begin(
            place,
            pid,
            Ownership::Owned,
            WatchFor::Exited,
            |mailbox, guard| mailbox.own(guard),
        )?;
        Ok(Child::new(watch))
    }
}

/// What a child used that has ended and was not reaped.
fn usage_so_far(pid: Pid) -> Option<Usage> {
    match sys::waitid(WaitTarget::LookAtChild(pid)) {
        Ok(WaitResult::Ended(_, usage)) => Some(usage),
        _ => None,
    }
}

impl Watcher {
    /// A queue that exits come into, to be fetched, with room for `capacity` watches at a time: 1 to
    /// 16,777,216; allocated at once,
    /// 88 bytes each on 64-bit machines. Takes a descriptor.
    ///
    /// # Errors
    ///
    /// [`BuildError::Option`](crate::BuildError::Option), or no descriptor was to be had.
    pub fn exits(&self, capacity: usize) -> Result<crate::Exits, crate::BuildError> {
        crate::api::builder::check_capacity("capacity", capacity)?;
        crate::Exits::new(Arc::clone(&self.shared), capacity)
    }
}

//! Begins and discards watches.

use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use exitring::WatchError;
use exitring_protocol::{Code, Error, Outcome, Unknown, Usage, WatchFor};

use super::errors::{exhausted, stopping};
use super::shared::Service;
use crate::serve::store::ProcessExit;
use crate::serve::sys::clock::now_ms;
use crate::serve::sys::process;
use crate::serve::watches::LiveWatch;

impl Service {
    /// Registers a stored watch with the library. Blocks briefly.
    pub(crate) fn arm(&self, live: &Arc<LiveWatch>, pidfd: OwnedFd) -> Result<(), Error> {
        let watcher = self.watcher.read().unwrap_or_else(PoisonError::into_inner);
        let watcher = watcher.as_ref().ok_or_else(stopping)?;
        // This copy still refers to the process if it is reaped at this moment.
        let spare = pidfd.try_clone().map_err(exhausted)?;
        let watched = match live.info.until {
            _ if live.is_child => watcher.watch_pidfd(pidfd),
            WatchFor::Exited => watcher.watch_pidfd(pidfd),
            WatchFor::Reaped => watcher.watch_reaped(live.info.pid),
        };
        let watch = match watched {
            Ok(watch) => watch,
            Err(WatchError::Reaped | WatchError::NoSuchProcess { .. }) => {
                self.report_ended(live, &spare);
                return Ok(());
            }
            Err(error) => return Err(refuse_watch(&error)),
        };
        // `watch_reaped` takes a pid. It was the pid of this process if that is not reaped by now.
        if live.info.until == WatchFor::Reaped
            && process::pid_of(&spare).map_err(exhausted)?.is_none()
        {
            drop(watch);
            self.report_ended(live, &spare);
            return Ok(());
        }
        let (store, its) = (self.store.clone(), Arc::clone(live));
        let callback = watch
            .on_exit(move |exit| {
                let ago = Instant::now().saturating_duration_since(exit.seen_at());
                let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                let ended_ms = now_ms().saturating_sub(ago_ms);
                let (outcome, usage) = (outcome(exit.outcome()), exit.usage().map(usage));
                store.exit(ProcessExit::new(its, outcome, usage, ended_ms));
            })
            .map_err(|_| stopping())?;
        live.set_registration(watch, callback);
        // The watch was removed before it had a registration to cancel.
        if !self.registry.has(live.info.id) {
            live.cancel();
        }
        Ok(())
    }

    /// Stores the exit of a process that was reaped before it could be watched.
    fn report_ended(&self, live: &Arc<LiveWatch>, pidfd: &OwnedFd) {
        let unknown = Outcome::Unknown(Unknown::NotAChild);
        let outcome = process::outcome_of(pidfd).unwrap_or(unknown);
        let exit = ProcessExit::new(Arc::clone(live), outcome, None, now_ms());
        self.store.exit(exit);
    }

    /// Removes a stored watch whose request has failed.
    pub(crate) async fn discard_watch(&self, watch: u64) {
        if let Err(error) = self.store.forget(watch).await {
            // The next start finds no process for it, and records that.
            tracing::warn!(watch, %error, "the watch of a failed request could not be deleted");
        }
        if let Some(live) = self.registry.remove(watch) {
            self.deadlines.remove(watch);
            live.cancel();
        }
    }
}

fn refuse_watch(error: &WatchError) -> Error {
    let code = match error {
        WatchError::Unsupported | WatchError::PidfdDenied { .. } => Code::Unsupported,
        WatchError::NotAPidfd | WatchError::ThreadPidfd => Code::NotAPidfd,
        _ if error.is_throttling() => Code::Exhausted,
        _ => Code::Failed,
    };
    Error::new(code, error.to_string())
}

fn outcome(outcome: exitring::Outcome) -> Outcome {
    match outcome {
        exitring::Outcome::Exited(code) => Outcome::Exited(code),
        exitring::Outcome::Signaled {
            signal,
            core_dumped,
        } => Outcome::Signaled {
            signal,
            core_dumped,
        },
        exitring::Outcome::Unknown(why) => Outcome::Unknown(match why {
            exitring::Unknown::NotAChild => Unknown::NotAChild,
            exitring::Unknown::ReapedElsewhere => Unknown::ReapedElsewhere,
            exitring::Unknown::SigchldIgnored => Unknown::SigchldIgnored,
            exitring::Unknown::NoDescriptor(_) => Unknown::NoDescriptor,
            _ => Unknown::Other,
        }),
        _ => Outcome::Unknown(Unknown::Other),
    }
}

fn usage(usage: exitring::Usage) -> Usage {
    let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Usage {
        user_us: us(usage.user()),
        system_us: us(usage.system()),
        max_rss_bytes: usage.max_rss_bytes(),
    }
}

//! What all connections share, and the verbs: watch, forget, signal.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use exitring::{WatchError, Watcher};
use exitring_protocol::{Code, Counts, Error, Limits, Moment, Outcome, Unknown, Usage};
use tokio::sync::{RwLockReadGuard, watch};
use tokio_util::sync::CancellationToken;

use super::clock::now_ms;
use super::closer::Closer;
use super::deadlines::Deadlines;
use super::live::{Birth, Live, Registry};
use super::metrics::Metrics;
use super::process;
use super::shares::Shares;
use super::spawner::Spawner;
use super::store::{Ended, Reader, Scope, Store, Tail};

pub(crate) struct Service {
    pub(crate) instance: String,
    pub(crate) limits: Limits,
    /// Who we are: root serves everybody, others themselves.
    pub(crate) uid: u32,
    /// `RLIMIT_NOFILE` as it was, for children.
    pub(crate) descriptors: rustix::process::Rlimit,
    /// `None` once it has stopped.
    pub(crate) watcher: RwLock<Option<Watcher>>,
    pub(crate) store: Store,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) reader: Reader,
    /// Whose turn it is with the reader.
    pub(crate) reading: tokio::sync::Semaphore,
    pub(crate) committed: watch::Receiver<u64>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) deadlines: Arc<Deadlines>,
    /// Whether requests are taken. Read-locked while one is worked on, so that the end waits for it.
    pub(crate) open: tokio::sync::RwLock<bool>,
    /// Starts processes.
    pub(crate) spawner: Spawner,
    /// How many processes are started at a time.
    pub(crate) starting: tokio::sync::Semaphore,
    /// And for one user.
    pub(crate) starting_of: Shares,
    /// Connections of one user.
    pub(crate) clients_of: Shares,
    /// Closes what clients pass and should not.
    pub(crate) closer: Closer,
    /// Tells connections to end.
    pub(crate) ended: CancellationToken,
    /// What the watcher waits with.
    pub(crate) backend: Mutex<String>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Service {
    /// Held while a request is worked on that changes something.
    pub(crate) async fn work(&self) -> Result<RwLockReadGuard<'_, bool>, Error> {
        let open = self.open.read().await;
        match *open {
            true => Ok(open),
            false => Err(stopping()),
        }
    }

    /// Begins to watch: the watch is written down already. Blocks a little.
    pub(crate) fn arm(&self, live: &Arc<Live>, pidfd: OwnedFd) -> Result<(), Error> {
        let watcher = self.watcher.read().unwrap_or_else(PoisonError::into_inner);
        let watcher = watcher.as_ref().ok_or_else(stopping)?;
        // A process that is reaped at this moment is known by this one still.
        let spare = pidfd.try_clone().map_err(exhausted)?;
        let watched = match live.birth.until {
            _ if live.own => watcher.watch_pidfd(pidfd),
            Moment::Exited => watcher.watch_pidfd(pidfd),
            Moment::Reaped => watcher.watch_reaped(live.birth.pid),
        };
        let watch = match watched {
            Ok(watch) => watch,
            Err(WatchError::Reaped | WatchError::NoSuchProcess { .. }) => {
                self.ended_already(live, &spare);
                return Ok(());
            }
            Err(error) => return Err(refuse_watch(&error)),
        };
        // By its number: it was the right one if the process is not reaped even now.
        if live.birth.until == Moment::Reaped && process::pid_of(&spare).ok().flatten().is_none() {
            drop(watch);
            self.ended_already(live, &spare);
            return Ok(());
        }
        let (store, its) = (self.store.clone(), Arc::clone(live));
        let callback = watch
            .on_exit(move |exit| {
                let ago = Instant::now().saturating_duration_since(exit.seen_at());
                let ago_ms = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
                store.exit(Ended {
                    live: its,
                    outcome: outcome(exit.outcome()),
                    usage: exit.usage().map(usage),
                    ended_ms: now_ms().saturating_sub(ago_ms),
                });
            })
            .map_err(|_| stopping())?;
        live.keep(watch, callback);
        // Taken back before there was anything to take back.
        if !self.registry.has(live.birth.id) {
            live.let_go();
        }
        Ok(())
    }

    fn ended_already(&self, live: &Arc<Live>, pidfd: &OwnedFd) {
        let unknown = Outcome::Unknown(Unknown::NotAChild);
        self.store.exit(Ended {
            live: Arc::clone(live),
            outcome: process::outcome_of(pidfd).unwrap_or(unknown),
            usage: None,
            ended_ms: now_ms(),
        });
    }

    /// Sends a signal in the name of a user.
    pub(crate) fn signal(
        &self,
        birth: &Birth,
        uid: u32,
        signal: i32,
        group: bool,
    ) -> Result<(), Error> {
        if !(0..=64).contains(&signal) {
            let message = format!("there is no signal {signal}; they go from 1 to 64");
            return Err(Error::new(Code::OutOfRange, message));
        }
        let gone = || {
            let message = format!("the process of watch {} has ended", birth.id);
            Error::new(Code::NoSuchProcess, message)
        };
        let pidfd = identified(birth).map_err(exhausted)?.ok_or_else(gone)?;
        let pidfd = std::os::fd::AsFd::as_fd(&pidfd);
        // We may be root and reach everybody: the user may not.
        let sent = match self.uid == 0 && uid != 0 {
            true => process::signal_as(uid, pidfd, signal, group),
            false => process::signal(pidfd, signal, group),
        };
        sent.map_err(|error| match error.raw_os_error() {
            Some(libc::ESRCH) => gone(),
            Some(libc::EPERM) => {
                let message = format!("process {} runs as another user by now", birth.pid);
                Error::new(Code::Denied, message)
            }
            Some(libc::EAGAIN | libc::ENOMEM) => exhausted(error),
            Some(libc::EINVAL) if group => {
                Error::new(Code::Unsupported, "signals to groups need Linux 6.9")
            }
            _ => Error::new(Code::Failed, format!("sending the signal: {error}")),
        })
    }

    /// Lets go of what the writer has done with. Called on its thread, after the commit.
    pub(crate) fn counts(&self) -> Counts {
        let metrics = &self.metrics;
        let whole = |number: i64| u64::try_from(number).unwrap_or(0);
        Counts {
            clients: whole(metrics.clients.get()),
            watched: self.registry.len() as u64,
            records: whole(metrics.records.get()),
            last_seq: *self.committed.borrow(),
            exits: metrics.exits.get(),
            unknown: metrics.unknown.get(),
            commits: metrics.commits.get(),
            dropped: metrics.dropped.get(),
            pending: whole(metrics.pending.get()),
            storage_error: self.store.trouble(),
            backend: self
                .backend
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        }
    }

    /// The same as OpenMetrics text.
    pub(crate) fn metrics_text(&self) -> String {
        let watcher = self.watcher.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(stats) = watcher.as_ref().map(exitring::Watcher::stats) {
            self.metrics.watcher_watched.set(stats.watched as i64);
            self.metrics.watcher_armed.set(stats.armed as i64);
            // The library counts, and never down.
            let delivered = self.metrics.watcher_delivered.inner();
            delivered.store(stats.delivered, Ordering::Relaxed);
        }
        drop(watcher);
        self.metrics.watched.set(self.registry.len() as i64);
        self.metrics.last_seq.set(*self.committed.borrow());
        self.metrics.text()
    }

    /// What a user sees.
    pub(crate) fn scope(who: Who, client: Option<&str>) -> Scope {
        Scope {
            uid: (who.uid != 0 || client.is_some()).then_some(who.uid),
            client: client.map(Into::into),
        }
    }
}

/// A pidfd of this very process; `None`: it was reaped.
pub(crate) fn identified(birth: &Birth) -> std::io::Result<Option<OwnedFd>> {
    let pidfd = match process::pidfd_open(birth.pid) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            return match error.raw_os_error() {
                // The number of a thread is no process of ours either.
                Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => Ok(None),
                _ => Err(error),
            };
        }
    };
    let same = match (birth.inode, process::inode(&pidfd)) {
        (Some(then), Some(now)) => then == now,
        // Read while the pidfd is open, so of what it means, unless that is reaped by now.
        _ => {
            process::stat(birth.pid).is_some_and(|stat| stat.start_ticks == birth.start_ticks)
                && process::pid_of(&pidfd)? == Some(birth.pid)
        }
    };
    Ok(same.then_some(pidfd))
}

pub(crate) fn stopping() -> Error {
    Error::new(
        Code::Stopping,
        "the service is ending, or restarting; connect again",
    )
}

pub(crate) fn exhausted(error: std::io::Error) -> Error {
    let code = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => Code::Exhausted,
        _ => Code::Failed,
    };
    Error::new(code, format!("the service: {error}"))
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

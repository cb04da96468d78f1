//! The mailbox: commands from callers to the ring thread, and its wake-up.
//!
//! One mutex protects everything, including the sleep flag, so no wake-up can be lost. The ring
//! thread sleeps only if the mailbox is empty under the lock, and a sender sees the flag under the
//! same lock. Only the sender that clears the flag writes the eventfd, so a busy ring thread costs
//! its callers no system call. The write comes after the lock is released, because the woken thread
//! needs the lock at once.
//!
//! In a short sleep, which has a timeout of some milliseconds, a registration does not wake the ring
//! thread. The caller adds the pidfd to [`NewPidfds`] instead, if that is possible. Other commands
//! wake it from any sleep.
//!
//! The capacity needs no limit: each watch has at most one registration, one removal, one request
//! to run callbacks, one report of a worker, and one notice of a new deadline, however often the
//! deadline was set meanwhile.

use std::collections::VecDeque;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::backend::{NewPidfds, new_watches_max};
use crate::record::Record;
use crate::record::delivery_guard::DeliveryGuard;
use crate::ring_thread::command::{Command, Registered};
use crate::ring_thread::notifier::Notifier;
use crate::sync::{Condvar, Mutex, MutexGuard};

pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    /// Signalled when `completed` advances, or when the mailbox closes.
    flushed: Condvar,
    /// The limit on pidfds in the mailbox.
    pidfds_max: usize,
    /// The limit on pidfds in the mailbox beyond which a registration ends a short sleep.
    new_pidfds_max: usize,
}

struct Inner {
    commands: VecDeque<Command>,
    /// How many of the commands hold a pidfd.
    pidfds: usize,
    /// Whether the ring thread sleeps, or is about to, and must be woken.
    sleep: Sleep,
    /// Where pidfds are added during a short sleep.
    new_pidfds: Option<Arc<NewPidfds>>,
    /// The ring thread must run although there may be no command.
    wake_requested: bool,
    /// The ring thread must end. Unlike `wake_requested`, taking commands does not clear this.
    stopping: bool,
    closed: bool,
    /// Removed when the mailbox closes, so that handles kept longer hold no descriptor.
    notifier: Option<Arc<Notifier>>,
    /// Commands ever sent, and how many of them the ring thread has carried out.
    sent: u64,
    completed: u64,
    flushers: u32,
}

/// The state of the ring thread, as far as senders need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sleep {
    /// It takes commands before it sleeps.
    Awake,
    /// It sleeps for [`SHORT_SLEEP`](crate::backend::SHORT_SLEEP) at most.
    Short,
    /// It sleeps until it is woken.
    Long,
}

impl Mailbox {
    /// Creates a mailbox for a process with this limit on descriptors.
    pub(crate) fn new(eventfd: OwnedFd, descriptor_limit: u64) -> Self {
        Self {
            pidfds_max: pidfds_max(descriptor_limit),
            new_pidfds_max: new_watches_max(descriptor_limit),
            inner: Mutex::new(Inner {
                commands: VecDeque::new(),
                pidfds: 0,
                sleep: Sleep::Awake,
                new_pidfds: None,
                wake_requested: false,
                stopping: false,
                closed: false,
                notifier: Some(Arc::new(Notifier::new(eventfd))),
                sent: 0,
                completed: 0,
                flushers: 0,
            }),
            flushed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code under the lock panics halfway.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets callers add pidfds to this epoll during a short sleep.
    pub(crate) fn set_new_pidfds(&self, new_pidfds: Option<Arc<NewPidfds>>) {
        self.lock().new_pidfds = new_pidfds;
    }

    /// Asks the ring thread to watch a process. Returns the guard if the mailbox is closed.
    ///
    /// The descriptor stays open until the ring thread has taken the command: see
    /// [`Mailbox::is_over_descriptor_budget`].
    pub(crate) fn watch(
        &self,
        guard: DeliveryGuard,
        registered: Registered,
    ) -> Result<(), DeliveryGuard> {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            return Err(guard);
        }
        let registered = self.add_new_pidfd(&inner, &guard, registered);
        let polled = matches!(registered, Registered::Polled(_));
        inner.push(Command::Watch(guard, registered));
        let wake_up = match polled {
            true => WakeUp(None),
            false => inner.wake(),
        };
        drop(inner);
        wake_up.send();
        Ok(())
    }

    /// Adds the pidfd to the epoll during a short sleep.
    ///
    /// The caller holds the lock until it has pushed the command. The ring thread reads the epoll
    /// before it takes commands, so what it reads has a command.
    fn add_new_pidfd(
        &self,
        inner: &Inner,
        guard: &DeliveryGuard,
        registered: Registered,
    ) -> Registered {
        match (registered, &inner.new_pidfds) {
            (Registered::Pidfd(pidfd), Some(new_pidfds))
                if inner.sleep == Sleep::Short && inner.pidfds < self.new_pidfds_max =>
            {
                let watch_for = guard.record().watch_for();
                match new_pidfds.add(pidfd.as_fd(), watch_for) {
                    Ok(()) => Registered::Polled(pidfd),
                    Err(_) => Registered::Pidfd(pidfd),
                }
            }
            (registered, _) => registered,
        }
    }

    /// Notifies the ring thread that a watch is abandoned. A closed mailbox ignores this.
    pub(crate) fn unwatch(&self, record: Arc<Record>) {
        let _ = self.send(Command::Unwatch(record));
    }

    /// Asks the ring thread to run callbacks that were added after the exit. Returns the guard if
    /// the mailbox is closed.
    pub(crate) fn schedule(&self, guard: DeliveryGuard) -> Result<(), DeliveryGuard> {
        match self.send(Command::Schedule(guard)) {
            Err(Command::Schedule(guard)) => Err(guard),
            _ => Ok(()),
        }
    }

    /// Sends a command. Returns it if the mailbox is closed: dropping a command can run user code,
    /// which must not happen under the lock.
    pub(crate) fn send(&self, command: Command) -> Result<(), Command> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(command);
        }
        inner.push(command);
        let wake_up = inner.wake();
        drop(inner);
        wake_up.send();
        Ok(())
    }

    /// Wakes the ring thread without a command.
    pub(crate) fn wake_reader(&self) {
        let mut inner = self.lock();
        inner.wake_requested = true;
        let wake_up = inner.wake();
        drop(inner);
        wake_up.send();
    }

    /// Requests the end of the ring thread. It never sleeps again.
    pub(crate) fn request_stop(&self) {
        let mut inner = self.lock();
        inner.stopping = true;
        let wake_up = inner.wake();
        drop(inner);
        wake_up.send();
    }

    /// Waits until the ring thread has carried out everything sent before, for at most `timeout`.
    /// Must not be called on the ring thread.
    pub(crate) fn flush(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        let mut inner = self.lock();
        let target = inner.sent;
        inner.flushers += 1;
        inner.wake_requested = true;
        let wake_up = inner.wake();
        drop(inner);
        wake_up.send();
        inner = self.lock();
        while inner.completed < target && !inner.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self
                .flushed
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        inner.flushers -= 1;
    }

    /// Moves all commands to `commands`, unless some are left there from before.
    ///
    /// Returns whether a caller waits for them: then [`Mailbox::acknowledge`] must be called before
    /// sleeping.
    pub(crate) fn take(&self, commands: &mut VecDeque<Command>) -> bool {
        let mut inner = self.lock();
        inner.sleep = Sleep::Awake;
        inner.wake_requested = false;
        if commands.is_empty() {
            mem::swap(&mut inner.commands, commands);
            inner.pidfds = 0;
        }
        inner.flushers > 0
    }

    /// Reports that all commands taken were carried out, except for the last `left`.
    pub(crate) fn acknowledge(&self, left: usize) {
        let mut inner = self.lock();
        inner.completed = inner.sent - (inner.commands.len() + left) as u64;
        if inner.flushers > 0 {
            self.flushed.notify_all();
        }
    }

    /// Whether the ring thread may sleep, because nothing awaits it. If so, senders wake it from
    /// now on, from a sleep of this kind.
    pub(crate) fn may_sleep(&self, sleep: Sleep) -> bool {
        let mut inner = self.lock();
        let may_sleep = inner.commands.is_empty() && !inner.wake_requested && !inner.stopping;
        inner.sleep = match may_sleep {
            true => sleep,
            false => Sleep::Awake,
        };
        may_sleep
    }

    /// The notifier to poll. It stays open until the mailbox is closed and the caller drops it.
    pub(crate) fn notifier(&self) -> Arc<Notifier> {
        Arc::clone(self.lock().notifier.as_ref().expect("the mailbox is open"))
    }

    /// Whether the mailbox holds so many pidfds that other threads could lack descriptors.
    pub(crate) fn is_over_descriptor_budget(&self) -> bool {
        self.lock().pidfds >= self.pidfds_max
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().commands.is_empty()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Whether the caller should open a pidfd for an owned child, to add it to the epoll. Otherwise
    /// the ring thread opens it.
    pub(crate) fn wants_pidfd_of_child(&self) -> bool {
        let inner = self.lock();
        inner.sleep != Sleep::Long
            && inner.new_pidfds.is_some()
            && inner.pidfds < self.new_pidfds_max
    }

    /// How many pidfds the mailbox holds.
    pub(crate) fn pidfds(&self) -> usize {
        self.lock().pidfds
    }

    /// Closes the mailbox, and returns the commands that are left.
    pub(crate) fn close(&self) -> VecDeque<Command> {
        let mut inner = self.lock();
        inner.closed = true;
        let notifier = inner.notifier.take();
        let new_pidfds = inner.new_pidfds.take();
        let commands = mem::take(&mut inner.commands);
        inner.pidfds = 0;
        self.flushed.notify_all();
        drop(inner);
        drop((notifier, new_pidfds));
        commands
    }
}

impl Inner {
    fn push(&mut self, command: Command) {
        if let Command::Watch(_, registered) = &command {
            self.pidfds += usize::from(registered.has_pidfd());
        }
        self.commands.push_back(command);
        self.sent += 1;
    }

    /// Marks the ring thread as awake. The caller must send the wake-up after it releases the lock.
    fn wake(&mut self) -> WakeUp {
        match mem::replace(&mut self.sleep, Sleep::Awake) {
            Sleep::Awake => WakeUp(None),
            Sleep::Short | Sleep::Long => WakeUp(self.notifier.clone()),
        }
    }
}

/// A wake-up to send, or none. It keeps the notifier open in case the mailbox closes meanwhile.
#[must_use = "without it the ring thread would not wake up"]
struct WakeUp(Option<Arc<Notifier>>);

impl WakeUp {
    fn send(self) {
        if let Some(notifier) = self.0 {
            notifier.notify();
        }
    }
}

/// The limit on pidfds in the mailbox of a process with this limit on descriptors: an eighth.
///
/// Not so few that callers often wait, and not so many that they occupy the ring thread for long.
pub(crate) fn pidfds_max(descriptor_limit: u64) -> usize {
    usize::try_from(descriptor_limit / 8)
        .unwrap_or(usize::MAX)
        .clamp(4, 256)
}

#[cfg(test)]
mod tests;

//! Errors of a queue of exits ([`Exits`](crate::Exits)).

use std::error::Error;
use std::fmt;

use super::common::{Closed, impl_from};
use super::watch::WOULD_DEADLOCK;

/// The error of [`Exits::add`](crate::Exits::add).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddError {
    /// The queue holds as many outstanding watches as its capacity permits.
    Full {
        /// The capacity.
        capacity: usize,
    },
    /// The exit will never be delivered.
    Closed(Closed),
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { capacity } => write!(
                f,
                "{capacity} watches are outstanding, which is the capacity; receive some exits \
                 first"
            ),
            Self::Closed(cause) => cause.fmt(f),
        }
    }
}

impl Error for AddError {}

impl_from!(Closed => AddError);

/// The error of [`Exits::recv`](crate::Exits::recv).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// A watcher ended before one of the outstanding processes did. Reported once.
    Closed(Closed),
    /// The wait could never end: an outstanding exit is delivered by a ring thread that is the
    /// calling thread (a waker, or a callback with `workers(0)`), or that waits for the callback
    /// from which the call is made.
    WouldDeadlock,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(cause) => cause.fmt(f),
            Self::WouldDeadlock => f.write_str(WOULD_DEADLOCK),
        }
    }
}

impl Error for RecvError {}

impl_from!(Closed => RecvError);

/// The error of [`Exits::recv_timeout`](crate::Exits::recv_timeout) while exits are outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvTimeoutError {
    /// No exit was delivered within the time.
    Timeout,
    /// See [`RecvError::Closed`].
    Closed(Closed),
    /// See [`RecvError::WouldDeadlock`].
    WouldDeadlock,
}

impl fmt::Display for RecvTimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no exit was delivered in time"),
            Self::Closed(cause) => cause.fmt(f),
            Self::WouldDeadlock => f.write_str(WOULD_DEADLOCK),
        }
    }
}

impl Error for RecvTimeoutError {}

impl_from!(Closed => RecvTimeoutError);

impl From<RecvError> for RecvTimeoutError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Closed(closed) => Self::Closed(closed),
            RecvError::WouldDeadlock => Self::WouldDeadlock,
        }
    }
}

/// The error of [`Exits::try_recv`](crate::Exits::try_recv) while exits are outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TryRecvError {
    /// No exit has been delivered yet.
    Empty,
    /// See [`RecvError::Closed`].
    Closed(Closed),
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no exit has been delivered yet"),
            Self::Closed(cause) => cause.fmt(f),
        }
    }
}

impl Error for TryRecvError {}

impl_from!(Closed => TryRecvError);

//! The ends of pipes that a child has at the other side.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// This process's end of a pipe to a standard stream of a [`Child`](crate::Child), until it is taken.
///
/// Empty if the stream was not piped. It is used like the `Option` that the standard library has in its place, but through a
/// shared reference too: children are often shared ([`Arc`](std::sync::Arc)), and a wait closes the standard input.
///
/// ```
/// use std::io::{Read, Write};
/// use std::process::{Command, Stdio};
/// use std::sync::Arc;
/// use exitring::Watcher;
///
/// let watcher = Watcher::new()?;
/// let mut command = Command::new("cat");
/// command.stdin(Stdio::piped()).stdout(Stdio::piped());
/// let child = Arc::new(watcher.spawn(&mut command)?);
/// let mut stdin = child.stdin.take().ok_or("it is piped")?;
/// let mut stdout = child.stdout.take().ok_or("it is piped")?;
/// stdin.write_all(b"hello")?;
/// drop(stdin);
/// let mut text = String::new();
/// stdout.read_to_string(&mut text)?;
/// assert_eq!(text, "hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Pipe<T>(Mutex<Option<T>>);

impl<T> Pipe<T> {
    pub(crate) const fn new(end: Option<T>) -> Self {
        Self(Mutex::new(end))
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        // No user code runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the end out; `None` if it was not piped, or taken or closed before. Never blocks.
    #[must_use = "what is taken out and dropped is closed; for that, drop it"]
    pub fn take(&self) -> Option<T> {
        self.lock().take()
    }

    /// The end, to be used where it is; `None` as [`take`](Self::take).
    pub fn as_mut(&mut self) -> Option<&mut T> {
        self.0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
    }

    /// The end, by value; `None` as [`take`](Self::take).
    pub fn into_inner(self) -> Option<T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is there.
    pub fn is_some(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether it is not there: not piped, taken, or closed.
    pub fn is_none(&self) -> bool {
        self.lock().is_none()
    }
}

impl<T: fmt::Debug> fmt::Debug for Pipe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

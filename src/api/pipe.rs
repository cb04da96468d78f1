//! The parent's ends of the pipes to a child.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The parent's end of a pipe to a standard stream of a [`Child`](crate::Child), until it is taken.
///
/// It is empty if the stream was not piped. It works like the `Option` that the standard library
/// uses here, but also through a shared reference: children are often shared
/// ([`Arc`](std::sync::Arc)), and a wait closes standard input. All methods can be called from any
/// thread.
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

    /// Takes the end out. Returns `None` if the stream was not piped, or the end was taken or
    /// closed before. Never blocks.
    #[must_use = "an end that is taken and dropped is closed; to close it, drop it explicitly"]
    pub fn take(&self) -> Option<T> {
        self.lock().take()
    }

    /// A mutable reference to the end; `None` as for [`take`](Self::take).
    pub fn as_mut(&mut self) -> Option<&mut T> {
        self.0
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
    }

    /// Unwraps the end; `None` as for [`take`](Self::take).
    pub fn into_inner(self) -> Option<T> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the end is present.
    pub fn is_some(&self) -> bool {
        self.lock().is_some()
    }

    /// Whether the end is absent: not piped, taken, or closed.
    pub fn is_none(&self) -> bool {
        self.lock().is_none()
    }
}

impl<T: fmt::Debug> fmt::Debug for Pipe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock().fmt(f)
    }
}

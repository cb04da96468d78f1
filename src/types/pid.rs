//! Process ids.

use std::fmt;
use std::num::NonZeroI32;

use crate::error::InvalidPid;

/// The id of one process (a thread group leader). Always positive.
///
/// A `Pid` is a plain number, which the kernel may reuse once the process was reaped.
/// [`Watcher::watch`](crate::Watcher::watch) turns it into a lasting identity at once, so the
/// number has to be valid only at the time of that call.
///
/// ```
/// use exitring::Pid;
///
/// let me = Pid::try_from(std::process::id())?;
/// assert_eq!(me.as_raw() as u32, std::process::id());
/// assert!(Pid::try_from(0).is_err());
/// assert!(Pid::try_from(-7).is_err());
/// # Ok::<(), exitring::InvalidPid>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// Converts a `pid_t`.
    ///
    /// # Errors
    ///
    /// [`InvalidPid`] if `raw` is zero or negative. The kernel reads such numbers as process
    /// groups.
    pub fn new(raw: i32) -> Result<Self, InvalidPid> {
        match NonZeroI32::new(raw) {
            Some(pid) if raw > 0 => Ok(Self(pid)),
            _ => Err(InvalidPid(raw.into())),
        }
    }

    /// The number as a `pid_t`.
    pub fn as_raw(self) -> i32 {
        self.0.get()
    }

    /// The number as rustix's type.
    pub(crate) fn as_rustix(self) -> rustix::process::Pid {
        rustix::process::Pid::from_raw(self.as_raw()).expect("a Pid is never zero")
    }
}

impl TryFrom<i32> for Pid {
    type Error = InvalidPid;

    fn try_from(raw: i32) -> Result<Self, InvalidPid> {
        Self::new(raw)
    }
}

impl TryFrom<u32> for Pid {
    type Error = InvalidPid;

    /// Converts what [`std::process::Child::id`] and [`std::process::id`] return.
    fn try_from(raw: u32) -> Result<Self, InvalidPid> {
        i32::try_from(raw)
            .map_err(|_| InvalidPid(raw.into()))
            .and_then(Self::new)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pid({})", self.0)
    }
}

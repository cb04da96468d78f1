//! Selects the backend: the requested one, or the best that this process may use.

use std::env;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::str::FromStr;
use std::sync::Arc;

use super::engine::Engine;
use super::epoll::Epoll;
use super::stop::Stop;
use super::threads::ThreadPerChild;
use super::uring::Uring;
use crate::error::BuildError;

/// For tests, and for users who must work around a kernel without a new build.
const ENV_VARIABLE: &str = "EXITRING_BACKEND";

/// How a watcher waits for processes; see [`Builder::backend`](crate::Builder::backend).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// io_uring, or the next best where io_uring is denied: epoll, and where pidfds are denied too,
    /// a thread for each child, which can watch owned children only.
    #[default]
    Auto,
    /// One io_uring, or an error. Watches need no descriptor.
    Uring,
    /// One epoll, or an error. Each watch needs a descriptor.
    Epoll,
    /// A thread for each child, at most 256. Only owned children can be watched
    /// ([`WatchError::PidfdDenied`](crate::WatchError::PidfdDenied)).
    Threads,
}

/// The backends by name, as in the environment variable and
/// [`Stats::backend`](crate::Stats::backend).
const NAMES: [(&str, Backend); 5] = [
    ("auto", Backend::Auto),
    ("uring", Backend::Uring),
    ("epoll", Backend::Epoll),
    ("threads", Backend::Threads),
    (SelectedBackend::URING.name, Backend::Uring),
];

/// A text that names no [`Backend`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidBackend(String);

impl fmt::Display for InvalidBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown backend {:?}; use auto, uring, epoll or threads",
            self.0
        )
    }
}

impl std::error::Error for InvalidBackend {}

impl FromStr for Backend {
    type Err = InvalidBackend;

    /// Accepts `auto`, `uring` (or `io_uring`), `epoll` and `threads`.
    fn from_str(name: &str) -> Result<Self, InvalidBackend> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, backend)| *backend)
            .ok_or_else(|| InvalidBackend(name.into()))
    }
}

impl fmt::Display for Backend {
    /// Writes the name that [`FromStr`] accepts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, backend)| backend == self);
        f.pad(name.map_or("", |(name, _)| name))
    }
}

/// The backend that a watcher uses, and why.
#[derive(Clone, Debug)]
pub(crate) struct SelectedBackend {
    pub(crate) name: &'static str,
    /// Descriptors of the backend itself, including the eventfd.
    pub(crate) descriptors: u64,
    /// If set, only owned children can be watched, for this errno.
    pub(crate) no_pidfds: Option<i32>,
    /// Why better backends could not be used.
    pub(crate) fallback: Option<String>,
}

impl SelectedBackend {
    const URING: Self = Self {
        name: "io_uring",
        // The ring, the eventfd, the epoll of new pidfds, and the spare.
        descriptors: 4,
        no_pidfds: None,
        fallback: None,
    };
    const EPOLL: Self = Self {
        name: "epoll",
        descriptors: 2,
        no_pidfds: None,
        fallback: None,
    };
    const THREADS: Self = Self {
        name: "threads",
        // The eventfd and its duplicate.
        descriptors: 2,
        no_pidfds: Some(libc::ENOSYS),
        fallback: None,
    };
}

/// Opens a backend for the calling thread.
///
/// Writing to `eventfd`, which must outlive the backend, ends a wait. Once `stop` says that the
/// watcher ends, the backend repeats no failed call.
pub(crate) fn open(
    wanted: Backend,
    eventfd: BorrowedFd<'_>,
    stop: &Arc<Stop>,
) -> Result<(Box<dyn Engine>, SelectedBackend), BuildError> {
    match wanted {
        Backend::Uring => {
            let uring = Uring::open(eventfd, Arc::clone(stop))?;
            let mut selected = SelectedBackend::URING;
            selected.descriptors -= u64::from(uring.new_pidfds().is_none());
            Ok((Box::new(uring), selected))
        }
        Backend::Epoll => Ok((Box::new(Epoll::open(eventfd)?), SelectedBackend::EPOLL)),
        Backend::Threads => Ok((
            Box::new(ThreadPerChild::open(eventfd)?),
            SelectedBackend::THREADS,
        )),
        Backend::Auto => match env::var_os(ENV_VARIABLE) {
            None => best(eventfd, stop),
            Some(value) => match value.to_str().map(Backend::from_str) {
                Some(Ok(Backend::Auto)) => best(eventfd, stop),
                Some(Ok(backend)) => open(backend, eventfd, stop),
                _ => Err(BuildError::Variable {
                    variable: ENV_VARIABLE,
                    value,
                }),
            },
        },
    }
}

fn best(
    eventfd: BorrowedFd<'_>,
    stop: &Arc<Stop>,
) -> Result<(Box<dyn Engine>, SelectedBackend), BuildError> {
    let no_uring = match open(Backend::Uring, eventfd, stop) {
        Err(error) if is_permanent(&error) => error,
        opened => return opened,
    };
    let fallback = Some(no_uring.to_string());
    let (no_pidfds, why) = match Epoll::open(eventfd) {
        Ok(epoll) => {
            let selected = SelectedBackend {
                fallback,
                ..SelectedBackend::EPOLL
            };
            return Ok((Box::new(epoll), selected));
        }
        Err(error @ BuildError::PidfdDenied { errno }) => (errno, error),
        Err(error) => return Err(error),
    };
    let selected = SelectedBackend {
        no_pidfds: Some(no_pidfds),
        fallback: Some(why.to_string()),
        ..SelectedBackend::THREADS
    };
    Ok((Box::new(ThreadPerChild::open(eventfd)?), selected))
}

/// Whether the error lasts. The caller gets an error that says that a resource ran out for now.
fn is_permanent(error: &BuildError) -> bool {
    matches!(
        error,
        BuildError::IoUringDenied { .. }
            | BuildError::IoUringTooOld { .. }
            | BuildError::PidfdDenied { .. }
            // Before Linux 5.12 a ring counts against RLIMIT_MEMLOCK.
            | BuildError::OutOfMemory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_name_parses_as_displayed() {
        let all = [
            Backend::Auto,
            Backend::Uring,
            Backend::Epoll,
            Backend::Threads,
        ];
        for backend in all {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        for selected in [
            SelectedBackend::URING,
            SelectedBackend::EPOLL,
            SelectedBackend::THREADS,
        ] {
            assert!(
                selected.name.parse::<Backend>().is_ok(),
                "{}",
                selected.name
            );
        }
        for wrong in ["", "Uring", "kqueue", " epoll"] {
            let error = wrong.parse::<Backend>().expect_err("it names no backend");
            assert!(error.to_string().contains("threads"), "{error}");
        }
    }
}

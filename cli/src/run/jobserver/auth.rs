//! Where a jobserver is: the option `--jobserver-auth` in the variable MAKEFLAGS.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The variable that make and others set for their children.
pub(super) const MAKEFLAGS: &str = "MAKEFLAGS";
/// In the order in which they count. Cargo sets the first for build scripts; MFLAGS is an old name.
pub(super) const VARIABLES: [&str; 3] = ["CARGO_MAKEFLAGS", MAKEFLAGS, "MFLAGS"];

const AUTH: &[u8] = b"--jobserver-auth=";
/// The name of the option before make 4.2.
const FDS: &[u8] = b"--jobserver-fds=";

/// Where a jobserver is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    /// Inherited descriptors of a pipe.
    Pipe { read: RawFd, write: RawFd },
    /// The path of a FIFO (make 4.4).
    Fifo(OsString),
    /// Another value, which may be one of a later make.
    Unknown(OsString),
}

impl Auth {
    /// The jobserver of this environment, and the variable that names it.
    pub(super) fn from_environment() -> Option<(&'static str, Self)> {
        VARIABLES.into_iter().find_map(|name| {
            let auth = Self::find(env::var_os(name)?.as_bytes())?;
            Some((name, auth))
        })
    }

    /// The last `--jobserver-auth` counts, as in make.
    fn find(flags: &[u8]) -> Option<Self> {
        let words: Vec<_> = options(flags).collect();
        let last = |option: &[u8]| {
            words
                .iter()
                .rev()
                .find_map(|word| word.strip_prefix(option))
        };
        let value = last(AUTH).or_else(|| last(FDS))?;
        Some(Self::parse(value))
    }

    fn parse(value: &[u8]) -> Self {
        if let Some(path) = value.strip_prefix(b"fifo:") {
            return Self::Fifo(OsStr::from_bytes(path).into());
        }
        let numbers = str::from_utf8(value).ok().and_then(|text| {
            let (read, write) = text.split_once(',')?;
            Some((read.parse().ok()?, write.parse().ok()?))
        });
        match numbers {
            Some((read, write)) => Self::Pipe { read, write },
            None => Self::Unknown(OsStr::from_bytes(value).into()),
        }
    }

    /// The value of MAKEFLAGS for children that share `jobs` jobs by this jobserver. Other flags
    /// in `before` are kept.
    pub(super) fn to_flags(&self, before: Option<OsString>, jobs: usize) -> OsString {
        let before = before.unwrap_or_default().into_vec();
        let all: Vec<_> = words(&before).collect();
        let end = all.iter().position(|word| *word == b"--");
        let (flags, variables) = all.split_at(end.unwrap_or(all.len()));
        let replaced = [AUTH, FDS, b"-j"];
        let kept = flags.iter().copied();
        let kept = kept.filter(|word| !replaced.iter().any(|option| word.starts_with(option)));
        let own = format!("-j{jobs} --jobserver-auth={self}");
        let words = kept
            .chain([own.as_bytes()])
            .chain(variables.iter().copied());
        OsString::from_vec(words.collect::<Vec<_>>().join(&b' '))
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe { read, write } => write!(f, "{read},{write}"),
            Self::Fifo(path) => write!(f, "fifo:{}", path.display()),
            Self::Unknown(value) => write!(f, "{}", value.display()),
        }
    }
}

fn words(flags: &[u8]) -> impl Iterator<Item = &[u8]> {
    flags
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// The words before `--`, which precedes the variables of make's command line.
fn options(flags: &[u8]) -> impl Iterator<Item = &[u8]> {
    words(flags).take_while(|word| *word != b"--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_jobserver_before_the_variables_counts() {
        let pipe = |read, write| Some(Auth::Pipe { read, write });
        let fifo = |path: &str| Some(Auth::Fifo(path.into()));
        for (flags, auth) in [
            ("", None),
            ("ks", None),
            ("-j4 --jobserver-auth", None),
            (" -j4 --jobserver-auth=3,4", pipe(3, 4)),
            ("w --jobserver-auth=3,4 -j2", pipe(3, 4)),
            ("--jobserver-fds=5,6 -j", pipe(5, 6)),
            ("--jobserver-auth=3,4 --jobserver-fds=5,6", pipe(3, 4)),
            ("--jobserver-auth=3,4 --jobserver-auth=5,6", pipe(5, 6)),
            ("-j4 --jobserver-auth=-2,-2", pipe(-2, -2)),
            (
                "-j4 --jobserver-auth=fifo:/tmp/GMfifo1",
                fifo("/tmp/GMfifo1"),
            ),
            (" -j -- X=1 --jobserver-auth=3,4", None),
            (
                "--jobserver-auth=sem:x",
                Some(Auth::Unknown("sem:x".into())),
            ),
            ("--jobserver-auth=3", Some(Auth::Unknown("3".into()))),
        ] {
            assert_eq!(Auth::find(flags.as_bytes()), auth, "{flags}");
        }
    }

    #[test]
    fn other_flags_are_kept() {
        let auth = Auth::Pipe {
            read: 10,
            write: 11,
        };
        let flags = |before: Option<&str>| auth.to_flags(before.map(Into::into), 4);
        assert_eq!(flags(None), "-j4 --jobserver-auth=10,11");
        assert_eq!(
            flags(Some(
                "ks -j2 --jobserver-fds=3,4 --jobserver-auth=3,4 -- X=-j1"
            )),
            "ks -j4 --jobserver-auth=10,11 -- X=-j1"
        );
        let found = Auth::find(flags(Some("k -- Y=2")).as_bytes());
        assert_eq!(found, Some(auth));
    }
}

//! The search for a program in `PATH`.
//!
//! The child tries the paths in turn, as `execvp(3)` does, so the search itself costs no further
//! system call. The path that was executed is remembered and tried first by the next child with the
//! same `PATH` and program. It is remembered for [`VALID`], so that a program that is installed in
//! an earlier directory is found.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::c_strings::CStrings;
use crate::sync::per_process::PerProcess;

const VALID: Duration = Duration::from_secs(1);
/// How many programs are remembered.
const ENTRIES_MAX: usize = 64;
/// The directories that are searched if there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The paths that may be the program.
#[derive(Clone)]
pub(crate) struct Candidates {
    pub(crate) paths: Arc<CStrings>,
    /// The one to try first.
    pub(crate) first: Option<usize>,
}

struct Entry {
    path: OsString,
    program: OsString,
    candidates: Candidates,
    found_at: Instant,
}

static FOUND: PerProcess<Mutex<Vec<Entry>>> = PerProcess::new();

impl Candidates {
    pub(crate) fn of(program: &OsStr, path: Option<&OsStr>) -> Self {
        let mut paths = CStrings::default();
        if program.as_bytes().contains(&b'/') || program.is_empty() {
            paths.push(program);
            return Self::new(paths);
        }
        let path = path.unwrap_or(DEFAULT_PATH.as_ref());
        if let Some(found) = with_entry(path, program, |entry| entry.candidates.clone()) {
            return found;
        }
        for directory in path.as_bytes().split(|byte| *byte == b':') {
            match directory {
                // The working directory.
                [] => paths.push(program),
                _ => paths.push_parts(&[directory, b"/", program.as_bytes()]),
            }
        }
        Self::new(paths)
    }

    fn new(paths: CStrings) -> Self {
        Self {
            paths: Arc::new(paths),
            first: None,
        }
    }

    /// Remembers the path that was executed.
    pub(crate) fn executed(&self, program: &OsStr, path: Option<&OsStr>, index: usize) {
        // A relative path names another file in another working directory.
        let relative = |path: &OsStr| !path.as_bytes().starts_with(b"/");
        if self.first == Some(index) || self.paths.len() == 1 || self.paths.iter().any(relative) {
            return;
        }
        let path = path.unwrap_or(DEFAULT_PATH.as_ref());
        let entry = Entry {
            path: path.into(),
            program: program.into(),
            candidates: Self {
                paths: Arc::clone(&self.paths),
                first: Some(index),
            },
            found_at: Instant::now(),
        };
        let mut entries = FOUND.get().lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|other| !other.is_for(path, program) && other.is_valid());
        if entries.len() >= ENTRIES_MAX {
            entries.remove(0);
        }
        entries.push(entry);
    }
}

fn with_entry<T>(path: &OsStr, program: &OsStr, f: impl FnOnce(&Entry) -> T) -> Option<T> {
    let entries = FOUND.get().lock().unwrap_or_else(PoisonError::into_inner);
    let entry = entries.iter().find(|entry| entry.is_for(path, program))?;
    entry.is_valid().then(|| f(entry))
}

impl Entry {
    fn is_for(&self, path: &OsStr, program: &OsStr) -> bool {
        self.program == program && self.path == path
    }

    fn is_valid(&self) -> bool {
        self.found_at.elapsed() < VALID
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(program: &str, path: Option<&str>) -> Vec<OsString> {
        let candidates = Candidates::of(program.as_ref(), path.map(AsRef::as_ref));
        candidates.paths.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_name_is_searched_for_and_a_path_is_not() {
        assert_eq!(paths("x", Some("/a:/b/")), ["/a/x", "/b//x"]);
        assert_eq!(paths("x", Some(":/a:")), ["x", "/a/x", "x"]);
        assert_eq!(paths("x", None), ["/bin/x", "/usr/bin/x"]);
        assert_eq!(paths("./x", Some("/a")), ["./x"]);
        assert_eq!(paths("/x", Some("/a")), ["/x"]);
        assert_eq!(paths("", Some("/a")), [""]);
    }

    #[test]
    fn the_executed_path_is_tried_first_by_the_next_child() {
        let (program, path) = (OsStr::new("remembered"), OsStr::new("/1:/2:/3"));
        let first = Candidates::of(program, Some(path));
        assert_eq!(first.first, None);
        first.executed(program, Some(path), 1);
        assert_eq!(Candidates::of(program, Some(path)).first, Some(1));
        let relative = OsStr::new("/1::/3");
        Candidates::of(program, Some(relative)).executed(program, Some(relative), 2);
        assert_eq!(Candidates::of(program, Some(relative)).first, None);
        let other = OsStr::new("/1:/2");
        assert_eq!(Candidates::of(program, Some(other)).first, None);
        for number in 0..ENTRIES_MAX {
            let program = OsString::from(format!("other {number}"));
            Candidates::of(&program, Some(path)).executed(&program, Some(path), 0);
        }
        assert_eq!(Candidates::of(program, Some(path)).first, None);
    }
}

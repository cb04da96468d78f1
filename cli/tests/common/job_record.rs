//! Jobs that record how many of them run at a time.
//!
//! Jobs append `+` to a file when they start and `-` before they end, each by one atomic write. The
//! largest number of `+` without their `-` is at most the number of jobs that ran at a time. Where
//! a test needs jobs that run at the same time, none of them ends before all have started.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::shell;

/// A directory with the file in which jobs record their starts and ends.
pub struct Record(TempDir);

impl Record {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// A command that does not end before `together` jobs have started.
    pub fn job(&self, together: usize) -> String {
        let file = self.dir().join("record");
        format!(
            "echo + >>{0}; until [ $(grep -c + {0}) -ge {together} ]; do sleep 0.01; done; sleep 0.01; \
             echo - >>{0}",
            file.display()
        )
    }

    pub fn list(&self, jobs: usize, together: usize) -> String {
        format!("{}\n", self.job(together)).repeat(jobs)
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn text(&self) -> String {
        fs::read_to_string(self.dir().join("record")).unwrap_or_default()
    }

    pub fn started(&self) -> usize {
        self.text().matches('+').count()
    }

    /// The most jobs that ran at a time.
    pub fn overlap(&self) -> usize {
        let (mut running, mut most) = (0_usize, 0);
        for change in self.text().lines() {
            match change {
                "+" => running += 1,
                _ => running -= 1,
            }
            most = most.max(running);
        }
        most
    }
}

/// Runs make with this Makefile, in which `$(EXITRING)` is the binary. It must succeed. Returns
/// standard error, where make reports tokens that were not put back.
pub fn make(record: &Record, options: &[&str], makefile: &str) -> String {
    record.write("Makefile", makefile);
    let mut command = shell("exec make \"$@\"");
    let output = command
        .arg("make")
        .args(options)
        .current_dir(record.dir())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    stderr
}

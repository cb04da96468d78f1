//! Two files for each job: `DIR/NUMBER.out` and `DIR/NUMBER.err`, made when the job writes something.
//!
//! They are written by us and not by the jobs, so that a full disk is noticed, and are closed in between, so that they cost
//! no descriptor while a job runs.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use super::output::Whose;
use super::token::OUT;
use crate::failure::Failure;

pub(crate) struct Logs {
    dir: PathBuf,
    /// A former run has left files here.
    used: bool,
}

impl Logs {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Failure> {
        let name = dir.display().to_string();
        let unusable =
            |error| Failure::usage(format!("cannot use the directory {name} for logs: {error}"));
        fs::create_dir_all(&dir).map_err(unusable)?;
        let used = fs::read_dir(&dir).map_err(unusable)?.next().is_some();
        // Better known now than after an hour.
        let probe = dir.join(".exitring");
        File::create(&probe).map_err(unusable)?;
        let _ = fs::remove_file(probe);
        Ok(Self { dir, used })
    }

    fn path(&self, whose: Whose) -> PathBuf {
        let stream = if whose.stream == OUT { "out" } else { "err" };
        self.dir.join(format!("{}.{stream}", whose.job))
    }

    /// Forgets what an earlier attempt, or an earlier run, had written.
    pub(crate) fn begin(&self, job: u64, attempt: u32) {
        if self.used || attempt > 1 {
            for stream in [0, 1] {
                let _ = fs::remove_file(self.path(Whose { job, stream }));
            }
        }
    }

    pub(crate) fn append(&self, whose: Whose, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path(whose);
        loop {
            let file = OpenOptions::new().append(true).create(true).open(&path);
            match file.and_then(|mut file| file.write_all(bytes)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failure::writing(
                        &format!("the log {}", path.display()),
                        &error,
                    ));
                }
            }
        }
    }
}

//! Two files for each job: `DIR/NUMBER.out` and `DIR/NUMBER.err`. Jobs write to them themselves, so that what a job leaves in the
//! background can go on doing so when the job, and we, have ended. A file that is empty at its job's end is removed, unless
//! something may still write to it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};
use signal_hook::consts::SIGIO;

use crate::failure::Failure;

/// So many empty files are looked at again at the end.
const KEPT_MAX: usize = 10_000;

pub(crate) struct Logs {
    dir: PathBuf,
    /// A former run has left files here.
    used: bool,
    /// Empty files that were not removed. A child on its way to its exec has copies of the descriptors of others, so
    /// that nobody writes may show only later.
    kept: Mutex<Vec<PathBuf>>,
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
        // Comes to who holds a lease when another opens the file, and must not end us.
        signal_hook::flag::register(SIGIO, Arc::new(AtomicBool::new(false))).map_err(unusable)?;
        Ok(Self {
            dir,
            used,
            kept: Mutex::default(),
        })
    }

    fn paths(&self, job: u64) -> [PathBuf; 2] {
        ["out", "err"].map(|stream| self.dir.join(format!("{job}.{stream}")))
    }

    /// The files for an attempt at a job, without what an earlier attempt, or an earlier run, has written.
    pub(crate) fn create(&self, job: u64, attempt: u32) -> Result<[File; 2], (PathBuf, io::Error)> {
        let [out, err] = self.paths(job);
        let create = |path: PathBuf| {
            if self.used || attempt > 1 {
                // A new file and not an emptied one: what the earlier attempt has left running does not write to it.
                let _ = fs::remove_file(&path);
            }
            let file = OpenOptions::new().append(true).create(true).open(&path);
            file.map_err(|error| (path, error))
        };
        Ok([create(out)?, create(err)?])
    }

    /// A job has ended, or was not started.
    pub(crate) fn end(&self, job: u64) {
        for path in self.paths(job) {
            if is_empty(&path) && !remove_unless_written(&path) {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < KEPT_MAX {
                    kept.push(path);
                }
            }
        }
    }

    /// The file of a job that could take no more, for it is as long as a file may be, or the disk is full.
    pub(crate) fn full(&self, job: u64) -> Option<Failure> {
        let limit = getrlimit(Resource::Fsize).current;
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let too_long = |path: &&PathBuf| limit.is_some_and(|limit| length(path) >= limit);
        let paths = self.paths(job);
        let (path, error) = match paths.iter().find(too_long) {
            Some(path) => (path, io::ErrorKind::FileTooLarge),
            None if is_full(rustix::fs::statvfs(&self.dir)) => {
                (&paths[0], io::ErrorKind::StorageFull)
            }
            None => return None,
        };
        Some(Failure::writing(
            &format!("the log {}", path.display()),
            &error.into(),
        ))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let kept = self.kept.get_mut().unwrap_or_else(PoisonError::into_inner);
        for path in kept.iter().filter(|path| is_empty(path)) {
            remove_unless_written(path);
        }
    }
}

/// Whether a file system takes nothing more from us. One without blocks is none that fills.
pub(crate) fn is_full(disk: rustix::io::Result<rustix::fs::StatVfs>) -> bool {
    let Ok(disk) = disk else { return false };
    // Root may also use what is kept in reserve.
    let available = match rustix::process::geteuid().is_root() {
        true => disk.f_bfree,
        false => disk.f_bavail,
    };
    disk.f_blocks > 0 && available == 0
}

fn is_empty(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

/// Removes a file that nobody has open for writing. Where the file system cannot tell, it stays.
fn remove_unless_written(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| nobody_writes(&file) && fs::remove_file(path).is_ok())
}

/// Whether nobody has the file open for writing: only then there may be a lease on it for reading, which ends with `file`.
fn nobody_writes(file: &File) -> bool {
    // SAFETY: fcntl with F_SETLEASE takes an integer, and the descriptor is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 }
}

//! Two files per job: `DIR/NUMBER.out` and `DIR/NUMBER.err`.
//!
//! Jobs write to the files themselves, so that a process that a job leaves in the background can
//! still write after the job and the run have ended. A file that is empty at the job's end is
//! removed, unless a process may still write to it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Resource, getrlimit};
use signal_hook::consts::SIGIO;

use crate::failure::Failure;
use crate::run::output_tail::{OutputTail, Tail};

/// How many empty files are checked again at the end of the run.
const KEPT_MAX: usize = 10_000;

pub(crate) struct Logs {
    dir: PathBuf,
    /// An earlier run has left files here.
    reused: bool,
    /// Empty files that were not removed. A child between fork and exec has copies of descriptors
    /// of other jobs, so a file may lose its last writer only later.
    kept_empty: Mutex<Vec<PathBuf>>,
}

impl Logs {
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Failure> {
        let name = dir.display().to_string();
        let unusable =
            |error| Failure::usage(format!("cannot use the directory {name} for logs: {error}"));
        fs::create_dir_all(&dir).map_err(unusable)?;
        let reused = fs::read_dir(&dir).map_err(unusable)?.next().is_some();
        // Finds an unusable directory now rather than after an hour.
        let probe = dir.join(".exitring");
        File::create(&probe).map_err(unusable)?;
        let _ = fs::remove_file(probe);
        // The kernel sends SIGIO to the holder of a lease when another process opens the file. It
        // must not end this process.
        signal_hook::flag::register(SIGIO, Arc::new(AtomicBool::new(false))).map_err(unusable)?;
        Ok(Self {
            dir,
            reused,
            kept_empty: Mutex::default(),
        })
    }

    fn paths(&self, job: u64) -> [PathBuf; 2] {
        ["out", "err"].map(|stream| self.dir.join(format!("{job}.{stream}")))
    }

    /// Creates the files for an attempt at a job, without the output of an earlier attempt or run.
    pub(crate) fn create(&self, job: u64, attempt: u32) -> Result<[File; 2], (PathBuf, io::Error)> {
        let [out, err] = self.paths(job);
        let create = |path: PathBuf| {
            if self.reused || attempt > 1 {
                // A new file rather than a truncated one: processes that the earlier attempt left
                // running do not write to it.
                let _ = fs::remove_file(&path);
            }
            let file = OpenOptions::new().append(true).create(true).open(&path);
            file.map_err(|error| (path, error))
        };
        Ok([create(out)?, create(err)?])
    }

    /// Removes the files of an earlier run, or of an earlier attempt, of a job that was not started.
    pub(crate) fn remove(&self, job: u64) {
        for path in self.paths(job) {
            let _ = fs::remove_file(path);
        }
    }

    /// The ends of a job's files, up to `max` bytes of each. Files that do not exist, or cannot be
    /// read, have none.
    pub(super) fn output_tail(&self, job: u64, max: usize) -> OutputTail {
        self.paths(job)
            .map(|path| read_tail(&path, max as u64).unwrap_or_default())
    }

    /// Completes a job that has ended or was not started: removes its empty files.
    pub(crate) fn finish_job(&self, job: u64) {
        for path in self.paths(job) {
            if is_empty(&path) && !remove_unless_written(&path) {
                let mut kept_empty = self
                    .kept_empty
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                if kept_empty.len() < KEPT_MAX {
                    kept_empty.push(path);
                }
            }
        }
    }

    /// The reason why a job's file cannot grow: it has the maximal length, or the disk is full.
    pub(crate) fn full_error(&self, job: u64) -> Option<Failure> {
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
        let kept_empty = self
            .kept_empty
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        for path in kept_empty.iter().filter(|path| is_empty(path)) {
            remove_unless_written(path);
        }
    }
}

/// Whether a file system is full for this process. One without blocks never fills.
pub(crate) fn is_full(disk: rustix::io::Result<rustix::fs::StatVfs>) -> bool {
    let Ok(disk) = disk else { return false };
    // Root may also use the reserved blocks.
    let available = match rustix::process::geteuid().is_root() {
        true => disk.f_bfree,
        false => disk.f_bavail,
    };
    disk.f_blocks > 0 && available == 0
}

fn read_tail(path: &Path, max: u64) -> io::Result<Tail> {
    // The job may have put a FIFO there, whose opening would block.
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(Tail::default());
    }
    let mut file = File::open(path)?;
    let omitted = file.metadata()?.len().saturating_sub(max);
    file.seek(SeekFrom::Start(omitted))?;
    let mut bytes = Vec::new();
    // Another process may still write to the file.
    file.take(max).read_to_end(&mut bytes)?;
    let mut tail = Tail::after(omitted, bytes);
    tail.finish();
    Ok(tail)
}

fn is_empty(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0)
}

/// Removes a file that no process has open for writing. It stays where the file system cannot tell.
fn remove_unless_written(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| has_no_writer(&file) && fs::remove_file(path).is_ok())
}

/// Whether no process has the file open for writing. Only then the kernel grants a read lease,
/// which ends with `file`.
fn has_no_writer(file: &File) -> bool {
    // SAFETY: fcntl with F_SETLEASE takes an integer, and the descriptor is open.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) == 0 }
}

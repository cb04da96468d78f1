//! The standard input of a job (`--stdin`).

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};

use crate::run::job::{Job, JobInput};

/// Opens what the job reads. `None`: it inherits /dev/null. The error has the name of the file.
pub(super) fn open(job: &Job) -> Result<Option<File>, (OsString, io::Error)> {
    let input = job.details.as_ref().and_then(|it| it.input.as_ref());
    let (name, file) = match input {
        None => return Ok(None),
        Some(JobInput::Text(text)) => ("its arguments".into(), file_of(text)),
        Some(JobInput::File(name)) => {
            let name = OsString::from_vec(name.with_slot(job.slot));
            let file = open_file(&name);
            (name, file)
        }
    };
    file.map(Some).map_err(|error| (name, error))
}

/// A file in memory, so that the text need not fit into a pipe.
fn file_of(text: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(file)
}

/// Names of the standard input of this process. Jobs do not inherit it, and it may be their list.
const OWN_STDIN: [&str; 4] = [
    "/dev/stdin",
    "/dev/fd/0",
    "/proc/self/fd/0",
    "/proc/thread-self/fd/0",
];

fn open_file(name: &OsString) -> io::Result<File> {
    if OWN_STDIN.iter().any(|own| name == own) {
        return Err(io::Error::other(
            "it is the standard input of exitring, and each job needs an input of its own",
        ));
    }
    // A job would find an empty input if no process has opened the FIFO for writing yet, and jobs
    // would share what is written to it. It is not opened, because that would let a writer begin.
    if fs::metadata(name)?.file_type().is_fifo() {
        return Err(io::Error::other(
            "it is a FIFO, and each job needs an input of its own",
        ));
    }
    // Another file must not block the thread either, which starts other jobs, too.
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(name)?;
    let flags = fcntl_getfl(&file)?;
    fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

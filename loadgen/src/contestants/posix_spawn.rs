//! The lower bound of spawning: threads that call `posix_spawn` and `waitpid`, one child at a time
//! each.
//!
//! Children wait in a queue until a thread is free, and the time in the queue is part of their
//! latency. To read output, the threads use `Command` of the standard library.

use std::ffi::{CString, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use exitring::Pid;

use super::contestant::Contestant;
use super::forked_children::{ForkedChildren, wait};
use super::job_threads::JobThreads;
use crate::measure::program::Program;
use crate::measure::recorder::{Delivery, Recorder, code_with_output};
use crate::measure::spawn_request::SpawnRequest;

unsafe extern "C" {
    static environ: *const *mut c_char;
}

pub(crate) struct PosixSpawn {
    recorder: Arc<Recorder>,
    threads: JobThreads,
    forked: ForkedChildren,
}

impl PosixSpawn {
    pub(crate) fn new(threads: usize, recorder: Arc<Recorder>) -> Result<Self> {
        Ok(Self {
            forked: ForkedChildren::new(Arc::clone(&recorder))?,
            recorder,
            threads: JobThreads::new(threads)?,
        })
    }
}

/// Starts a program without any of the settings that a `Command` has.
fn spawn(program: &Program, index: usize) -> Result<Pid> {
    let path = CString::new(program.path().as_os_str().as_bytes())?;
    let arguments: Result<Vec<_>, _> = program.arguments(index).map(CString::new).collect();
    let arguments = arguments?;
    let mut argv = vec![path.as_ptr().cast_mut()];
    argv.extend(arguments.iter().map(|word| word.as_ptr().cast_mut()));
    argv.push(ptr::null_mut());
    let mut pid = 0;
    // SAFETY: the path and the arguments are strings that live until the call returns, and both
    // lists end with a null pointer. No thread changes the environment.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            ptr::null(),
            ptr::null(),
            argv.as_ptr(),
            environ,
        )
    };
    ensure!(
        error == 0,
        "posix_spawn of {}: {}",
        program.path().display(),
        io::Error::from_raw_os_error(error)
    );
    Ok(Pid::new(pid)?)
}

impl Contestant for PosixSpawn {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        self.forked.add(pid, index)
    }

    fn starts_in_the_call(&self) -> bool {
        false
    }

    fn spawn(&mut self, request: &SpawnRequest) -> Result<Option<Pid>> {
        let SpawnRequest::Program { index, program } = request.clone() else {
            bail!("posix_spawn executes a program");
        };
        let recorder = Arc::clone(&self.recorder);
        self.threads.run(move || {
            let pid = spawn(&program, index)?;
            wait(&recorder, pid, index);
            Ok(())
        });
        Ok(None)
    }

    fn capture(&mut self, index: usize, program: &Arc<Program>) -> Result<Option<Pid>> {
        let (recorder, program) = (Arc::clone(&self.recorder), Arc::clone(program));
        self.threads.run(move || {
            let mut command = program.command(index);
            let child = command.stdout(std::process::Stdio::piped()).spawn()?;
            let pid = Pid::try_from(child.id())?;
            let output = child.wait_with_output()?;
            let delivery = Delivery::begin(index);
            let code = code_with_output(&program, &output.stdout, output.status.code());
            delivery.end(&recorder, pid, code);
            Ok(())
        });
        Ok(None)
    }
}

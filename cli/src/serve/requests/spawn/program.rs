//! The program of a child, and its exec.

use std::ffi::CString;
use std::io;
use std::ptr;

/// What to execute. All memory is allocated before the fork.
pub(super) struct Program {
    /// The paths to try, in this order.
    paths: Vec<CString>,
    /// An element before the first argument, for a shell, and a null pointer after the last.
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    /// The strings that the pointers point to.
    _strings: Vec<CString>,
}

// SAFETY: the pointers point to strings that it owns, which never change.
unsafe impl Send for Program {}
// SAFETY: as above.
unsafe impl Sync for Program {}

impl Program {
    pub(super) fn new(
        paths: Vec<CString>,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Self {
        // Moving a `CString` does not move its text.
        let pointers = |strings: &[CString]| {
            strings
                .iter()
                .map(|string| string.as_ptr())
                .collect::<Vec<_>>()
        };
        let (its_arguments, mut its_environment) = (pointers(&arguments), pointers(&environment));
        its_environment.push(ptr::null());
        let strings = arguments.into_iter().chain(environment).collect();
        Self {
            paths,
            arguments: [vec![ptr::null()], its_arguments, vec![ptr::null()]].concat(),
            environment: its_environment,
            _strings: strings,
        }
    }

    /// Executes the program as `execvp` does, but with the `PATH` of the program. Returns only if
    /// that fails.
    pub(super) fn execute(&mut self) -> io::Error {
        let mut denied = None;
        for path in &self.paths {
            // SAFETY: both lists point to live strings, and end with a null pointer.
            unsafe {
                libc::execve(
                    path.as_ptr(),
                    self.arguments.as_ptr().add(1),
                    self.environment.as_ptr(),
                )
            };
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => denied = Some(error),
                Some(libc::ENOEXEC) => {
                    // A script without a `#!` line runs in the shell.
                    self.arguments[0] = c"sh".as_ptr();
                    self.arguments[1] = path.as_ptr();
                    // SAFETY: as above.
                    unsafe {
                        libc::execve(
                            c"/bin/sh".as_ptr(),
                            self.arguments.as_ptr(),
                            self.environment.as_ptr(),
                        )
                    };
                    return error;
                }
                _ => return error,
            }
        }
        denied.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }
}

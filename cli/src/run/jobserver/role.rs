//! What a run has to do with a jobserver.

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use tempfile::TempDir;

use super::auth::{Auth, MAKEFLAGS, VARIABLES};
use super::connection::Connection;
use super::tokens::Tokens;
use crate::diagnostics::say;
use crate::failure::Failure;
use crate::run::options::Options;

/// How a jobserver is passed on to jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// Two inherited descriptors: any make, cargo.
    Pipe,
    /// The path of a FIFO: make 4.4, ninja 1.13, cargo.
    Fifo,
}

/// The jobserver of a run, and how many jobs run at a time.
#[derive(Debug)]
pub(crate) struct Role {
    /// The limit on running jobs.
    pub(crate) jobs: usize,
    connection: Option<Connection>,
    /// The tokens in the own pipe, if this run provides the jobserver.
    own: Option<usize>,
    /// The directory of the own FIFO. It is removed with this value.
    _dir: Option<TempDir>,
}

impl Role {
    /// Connects to the jobserver in the environment, or creates one and sets the environment.
    ///
    /// The caller must not have started a thread yet. It must not have opened a file either: that
    /// could have the number of a descriptor that make has closed. `more` is how many jobs can be
    /// added to `-j` later.
    pub(crate) fn choose(options: &Options, more: usize) -> Result<Self, Failure> {
        let mut role = Self {
            jobs: options.jobs.unwrap_or_default().get(),
            connection: None,
            own: None,
            _dir: None,
        };
        if options.dry_run {
            return Ok(role);
        }
        if !options.no_jobserver
            && let Some((variable, auth)) = Auth::from_environment()
        {
            match Connection::open(&auth) {
                Ok(connection) => {
                    role.connection = Some(connection);
                    return Ok(role);
                }
                Err(reason) => role.do_without(options, variable, &auth, &reason),
            }
        }
        if let Some(style) = options.jobserver {
            role.provide(style, more).map_err(|error| {
                Failure::resource(format!("cannot create a jobserver: {error}")).remedy(
                    "check TMPDIR, /proc and the sysctl fs.pipe-max-size, use a smaller -j, or \
                     remove --jobserver",
                )
            })?;
        }
        Ok(role)
    }

    /// As make does, and for the same reason: the caller asked for a number of jobs that this
    /// program does not know.
    fn do_without(&mut self, options: &Options, variable: &str, auth: &Auth, reason: &str) {
        if options.jobs.is_none() {
            self.jobs = 1;
        }
        let jobs = match self.jobs {
            1 => "one job runs at a time".into(),
            jobs => format!("{jobs} jobs run at a time"),
        };
        say(&format!(
            "the jobserver {auth} of {variable} cannot be used: {reason}; {jobs}. In a recipe of \
             make, begin the line with +, or use --no-jobserver\n"
        ));
    }

    fn provide(&mut self, style: Style, more: usize) -> io::Result<()> {
        let (connection, auth) = match style {
            Style::Pipe => Connection::create_pipe()?,
            Style::Fifo => {
                let dir = tempfile::Builder::new()
                    .prefix("exitring-jobserver-")
                    .tempdir_in(fifo_parent())?;
                let created = Connection::create_fifo(&dir.path().join("fifo"))?;
                self._dir = Some(dir);
                created
            }
        };
        let tokens = self.jobs - 1;
        connection.fill(tokens, more)?;
        let flags = auth.to_flags(env::var_os(MAKEFLAGS), self.jobs);
        for variable in VARIABLES {
            // SAFETY: no other thread exists that could read or change the environment.
            unsafe { env::remove_var(variable) };
        }
        // SAFETY: the same.
        unsafe { env::set_var(MAKEFLAGS, flags) };
        self.connection = Some(connection);
        self.own = Some(tokens);
        Ok(())
    }

    /// The tokens, if there is a jobserver. `poll` is the supervisor's epoll.
    pub(crate) fn take_tokens(&mut self, poll: &Arc<OwnedFd>) -> io::Result<Option<Tokens>> {
        let Some(connection) = self.connection.take() else {
            return Ok(None);
        };
        Tokens::new(connection, self.own, Arc::clone(poll)).map(Some)
    }
}

/// Where the FIFO is made. The path stands in MAKEFLAGS, where a blank would end it, and jobs may
/// have another directory.
fn fifo_parent() -> PathBuf {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+,~@".contains(byte);
    match path::absolute(env::temp_dir()) {
        Ok(dir) if dir.as_os_str().as_bytes().iter().all(plain) => dir,
        _ => "/tmp".into(),
    }
}

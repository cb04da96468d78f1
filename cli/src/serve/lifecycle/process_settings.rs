//! Settings of the whole process.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::stdio;

/// Starts the log, on standard error.
pub(crate) fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| LogOutput)
        .with_target(false)
        .with_ansi(false);
    match json {
        true => log.json().init(),
        false => log.init(),
    }
}

/// Raises the limit of descriptors as far as possible. Returns the original limit.
pub(crate) fn raise_descriptor_limit(wanted: u64) -> Rlimit {
    let original = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: original.maximum,
        maximum: original.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "RLIMIT_NOFILE cannot be raised");
    }
    if let Some(limit) = getrlimit(Resource::Nofile)
        .current
        .filter(|limit| *limit < wanted)
    {
        tracing::warn!(
            limit,
            wanted,
            "RLIMIT_NOFILE is too low for the maximum number of clients"
        );
    }
    original
}

/// Standard error, which may be non-blocking.
struct LogOutput;

impl io::Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        stdio::write_err(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

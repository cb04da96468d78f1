//! The command lines of `exitring watch` and `exitring exits`.

use std::path::PathBuf;

use clap::Args;

/// Where the service is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// The service's socket
    #[arg(long, value_name = "PATH", env = "EXITRING_SOCKET")]
    pub(crate) socket: PathBuf,

    /// In whose name: watches and records of other names are left alone
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
}

/// Prints each process's record as a line of JSON when it has ended. Exit code: 0 if all are known to have exited with code 0, or
/// their outcome is nobody's to tell; 1 if one failed; 2 if it could not be watched.
#[derive(Clone, Debug, Args)]
pub(crate) struct WatchOptions {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The processes
    #[arg(required = true, value_name = "PID")]
    pub(crate) pids: Vec<i32>,

    /// Wait until the parent has reaped it, which tells the status (Linux 6.15)
    #[arg(long)]
    pub(crate) reaped: bool,

    /// What to call them in the records
    #[arg(long, value_name = "TAG", default_value = "")]
    pub(crate) tag: String,
}

/// Prints exit records as lines of JSON.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExitsOptions {
    #[command(flatten)]
    pub(crate) place: Place,

    /// The first place in the log; 0: all that is kept
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) from: u64,

    /// Acknowledge what was printed, so that the service need not keep it; not with --from
    #[arg(long)]
    pub(crate) ack: bool,

    /// Go on with what is to come
    #[arg(long)]
    pub(crate) follow: bool,
}

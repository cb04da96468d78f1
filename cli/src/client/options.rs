//! The command lines of `exitring watch` and `exitring exits`.

use std::path::PathBuf;

use clap::Args;

/// How to reach the service.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServiceOptions {
    /// The socket of the service
    #[arg(
        long,
        value_name = "PATH",
        env = "EXITRING_SOCKET",
        hide_env_values = true
    )]
    pub(crate) socket: PathBuf,

    /// The name of the client
    ///
    /// Watches and records belong to a name. Those of other names are neither seen nor
    /// acknowledged.
    #[arg(long, value_name = "NAME")]
    pub(crate) client: Option<String>,
}

/// Have a service watch processes, and print their exit records
///
/// The record of each process is printed as a line of JSON when the process has ended.
///
/// Exit status: 0 if each process exited with code 0 or its status is unknown; 1 if one failed; 2
/// if one could not be watched.
#[derive(Clone, Debug, Args)]
pub(crate) struct WatchOptions {
    #[command(flatten)]
    pub(crate) service: ServiceOptions,

    /// The processes
    #[arg(required = true, value_name = "PID")]
    pub(crate) pids: Vec<i32>,

    /// Wait for the parent to reap the process
    ///
    /// Only then its status is available, from Linux 6.15 on.
    #[arg(long)]
    pub(crate) reaped: bool,

    /// A text that the records repeat
    #[arg(
        long,
        value_name = "TAG",
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) tag: String,
}

/// Print exit records from a service
///
/// Each record is a line of JSON.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExitsOptions {
    #[command(flatten)]
    pub(crate) service: ServiceOptions,

    /// The first position in the log
    ///
    /// 0 stands for all records that are kept.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) from: u64,

    /// Acknowledge the records that were printed
    ///
    /// The service drops them, and all older records of the client, so this cannot be used with
    /// --from.
    #[arg(long)]
    pub(crate) ack: bool,

    /// Print new records as they come
    #[arg(long)]
    pub(crate) follow: bool,
}

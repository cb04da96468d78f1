//! The command line: one subcommand a line; the options of each are with it.

use clap::{Parser, Subcommand};

use crate::client::{ExitsOptions, WatchOptions};
use crate::serve::ServeOptions;

/// Run thousands of commands, and learn at once when any process ends and how
#[derive(Debug, Parser)]
#[command(version, name = "exitring")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Tell what this machine allows, and what to change
    Doctor,
    /// Exit records from a service
    Exits(ExitsOptions),
    /// Print the JSON schema of the service's protocol
    #[command(hide = true)]
    ProtocolSchema,
    /// Serve exits to other processes over a Unix socket, durably
    Serve(Box<ServeOptions>),
    /// Have a service watch processes, and wait for them
    Watch(WatchOptions),
}

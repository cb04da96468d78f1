//! The command line: one subcommand a line; the options of each are with it.

use clap::{Parser, Subcommand};

#[cfg(feature = "serve")]
use crate::serve;
use crate::{client, completions, doctor, man, run, wait};

/// Run thousands of commands, and learn at once when any process ends and how
#[derive(Debug, Parser)]
#[command(version, name = "exitring", propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run many commands, so many at a time, and tell how each ended
    Run(run::Options),
    /// Wait for processes to end, children or not
    Wait(wait::Options),
    /// Tell what this machine allows, and what to change
    Doctor(doctor::Options),
    /// Serve exits to other processes over a Unix socket, durably
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeOptions>),
    /// Have a service watch processes, and wait for them
    Watch(client::WatchOptions),
    /// Exit records from a service
    Exits(client::ExitsOptions),
    /// Print completions for a shell
    Completions(completions::Options),
    /// Write the man pages
    Man(man::Options),
    /// Read pipes to their ends, for `run`
    #[command(hide = true)]
    DrainPipes,
    /// Print the JSON schema of the service's protocol
    #[command(hide = true)]
    ProtocolSchema,
}

//! The command line: one subcommand a line; the options of each are with it.

use clap::{Parser, Subcommand};

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
}

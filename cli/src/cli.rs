//! The command line: the subcommands, each with the options of its module.

use clap::{Parser, Subcommand};

#[cfg(feature = "queue")]
use crate::queue;
#[cfg(feature = "serve")]
use crate::serve;
use crate::{client, completions, doctor, man, run, wait};

/// Run thousands of commands, and watch any process for its end and its status
#[derive(Debug, Parser)]
#[command(version, name = "exitring", propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Options>),
    #[cfg(feature = "queue")]
    Submit(Box<queue::SubmitOptions>),
    #[cfg(feature = "queue")]
    Results(queue::ResultsOptions),
    #[cfg(feature = "queue")]
    Queue(queue::QueueOptions),
    Wait(wait::Options),
    Doctor(doctor::Options),
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeOptions>),
    Watch(client::WatchOptions),
    Exits(client::ExitsOptions),
    Completions(completions::Options),
    Man(man::Options),
    /// Read the pipes of jobs to their ends, for `run`
    #[command(hide = true)]
    DrainPipes,
    /// Print the JSON schema of the service's protocol
    #[command(hide = true)]
    ProtocolSchema,
}

//! A storm of what `exitring serve` watches for many clients: from the child's last instruction to the client's knowing, against
//! the library's own callbacks in the same turns.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Order;
use super::bench::Bench;
use crate::board::Gate;
use crate::run::Run;
use crate::tally::Tally;

#[derive(Clone, Debug, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ServeOptions {
    /// How many clients there are, each with a connection and a thread
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) clients: u32,
    /// How many processes each has watched
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) watches: u32,
    /// Where the service's state folder is made, and removed again [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

impl ServeOptions {
    pub(super) fn children(&self) -> u64 {
        u64::from(self.clients) * u64::from(self.watches)
    }

    pub(super) fn check(&self) -> Result<()> {
        if let Some(folder) = &self.state {
            ensure!(
                folder.is_dir(),
                "--state {}: there is no such folder",
                folder.display()
            );
        }
        Ok(())
    }
}

pub(super) fn measure(order: &Order, options: &ServeOptions) -> Result<Run> {
    let all = 0..options.children() as usize;
    let tally = Tally::new(all.len(), Duration::ZERO)?;
    let mut bench = Bench::new(order, tally, &[(all.clone(), Gate::Exits)])?;
    bench.start()?;
    bench.release(Gate::Exits);
    bench.wait_for(all.len() as u64);
    bench.stop(&all)?;
    bench.finish(all.len() as u64, all.len())
}

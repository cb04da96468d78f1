//! Who is measured: ways of learning that children ended.

mod exitring;
mod wait_loop;

use std::sync::Arc;

use anyhow::Result;

use self::exitring::{Exitring, Reaper};
use crate::cli::{ContestantName, StormOptions};
use crate::tally::Tally;

/// A way of learning that children ended. It tells the tally of each exit, status included, and
/// reaps the child. Dropping it ends its threads.
pub(crate) trait Contestant {
    /// With what matters of its settings.
    fn name(&self) -> String;

    /// Watches all children of the tally; returns when it is ready for their exits.
    fn watch_all(&mut self, tally: &Arc<Tally>) -> Result<()>;
}

/// Makes the contestant that the options name.
pub(crate) fn make(options: &StormOptions) -> Result<Box<dyn Contestant>> {
    Ok(match options.contestant {
        ContestantName::Exitring => Box::new(Exitring::new(options.workers, Reaper::Watcher)?),
        ContestantName::ExitringWatch => {
            Box::new(Exitring::new(options.workers, Reaper::Callback)?)
        }
        ContestantName::WaitLoop => Box::new(wait_loop::WaitLoop::default()),
    })
}

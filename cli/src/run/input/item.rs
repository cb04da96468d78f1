//! A job of the list.

use crate::run::command_spec::CommandSpec;
use crate::run::job::Details;

/// A job of the list.
pub(crate) struct Item {
    /// It differs between all jobs of a run, repeated ones included.
    pub(crate) number: u64,
    /// The position in the list, from 1.
    pub(crate) position: u64,
    /// Which of the times of `--repeat` this is, from 1; 0 without that option.
    pub(crate) repeat: u32,
    pub(crate) command: CommandSpec,
    pub(crate) details: Option<Box<Details>>,
}

impl Item {
    /// About how much memory it takes.
    pub(super) fn size(&self) -> usize {
        let command = self.command.size();
        // The details are a name, a tag, and an input, each of about the size of the arguments, and
        // the name of a group.
        let details = self.details.as_ref().map_or(0, |details| {
            let group = details.claim.as_ref().and_then(|it| it.group.as_ref());
            size_of::<Details>() + 3 * command + group.map_or(0, |group| group.len())
        });
        size_of::<Self>() + command + details
    }
}

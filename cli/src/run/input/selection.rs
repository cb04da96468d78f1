//! The jobs of this run: those of the list that belong to this part of it and are not done, in the
//! order in which they start.

use std::collections::VecDeque;
use std::sync::Arc;

use super::balance;
use super::item::Item;
use super::shard::Shard;
use super::source::Source;
use crate::failure::Failure;
use crate::run::output::submitted_jobs::SubmittedJobs;
use crate::run::report::durations::Durations;
use crate::run::report::failed_jobs::FailedJobs;
use crate::run::report::resume::{Resume, ResumeAction};

/// The largest size of the jobs of a round that are sorted.
const SIZE_MAX: usize = 256 * 1024 * 1024;

/// The selection, which reads the list.
pub(crate) struct Selection {
    pub(crate) source: Source,
    pub(crate) shard: Shard,
    pub(crate) resume: Option<Resume>,
    /// Only these jobs run.
    pub(crate) failed: Option<FailedJobs>,
    /// The order of the jobs, and of the parts of the list.
    pub(crate) durations: Option<Durations>,
    /// The jobs whose output is kept in the order of the list.
    pub(crate) submitted: Option<Arc<SubmittedJobs>>,
    pub(crate) progress: SelectionProgress,
}

/// How far a selection is.
#[derive(Default)]
pub(crate) struct SelectionProgress {
    /// The rest of a round whose jobs were sorted.
    sorted: VecDeque<Selected>,
    is_sorted: bool,
    /// The jobs of this part of the list so far.
    selected: u64,
    /// The same of this round.
    in_round: u64,
}

/// What [`Selection::next`] finds.
pub(crate) enum Selected {
    Run(Item),
    /// An earlier run has done the job.
    DoneBefore {
        failed: bool,
    },
    /// The job does not belong to this run.
    Skipped,
    /// A message.
    Notice(String),
}

impl Selection {
    pub(crate) fn new(source: Source, shard: Shard, resume: Option<Resume>) -> Self {
        Self {
            source,
            shard,
            resume,
            failed: None,
            durations: None,
            submitted: None,
            progress: SelectionProgress::default(),
        }
    }

    /// The next job of the list. `None` at the end of the last round.
    pub(crate) fn next(&mut self) -> Result<Option<Selected>, Failure> {
        loop {
            if self.durations.is_some() && !self.progress.is_sorted {
                self.sort_round()?;
            }
            let next = match self.progress.is_sorted {
                true => self.progress.sorted.pop_front(),
                false => match self.source.next()? {
                    Some(item) => Some(self.select(item)?),
                    None => None,
                },
            };
            if next.is_some() {
                return Ok(next);
            }
            if let Some(failed) = &mut self.failed
                && let Some(text) = failed.check_found()?
            {
                return Ok(Some(Selected::Notice(text)));
            }
            // A part without jobs would be repeated without an end.
            if std::mem::take(&mut self.progress.in_round) == 0 || !self.source.next_round() {
                return Ok(None);
            }
            self.progress.is_sorted = false;
        }
    }

    fn select(&mut self, item: Item) -> Result<Selected, Failure> {
        match self.is_wanted(&item) && self.shard.contains(item.position) {
            true => self.unless_done(item),
            false => Ok(Selected::Skipped),
        }
    }

    fn is_wanted(&mut self, item: &Item) -> bool {
        let failed = self.failed.as_mut();
        failed.is_none_or(|failed| failed.contains(&item.command))
    }

    /// Selects a job of this part of the list.
    fn unless_done(&mut self, item: Item) -> Result<Selected, Failure> {
        self.progress.selected += 1;
        self.progress.in_round += 1;
        let Some(resume) = &mut self.resume else {
            return Ok(Selected::Run(item));
        };
        Ok(match resume.action(item.number, &item.command)? {
            ResumeAction::Run => Selected::Run(item),
            ResumeAction::Skip { failed } => Selected::DoneBefore { failed },
        })
    }

    /// Reads a round of the list, and sorts the jobs of this part by their durations.
    fn sort_round(&mut self) -> Result<(), Failure> {
        let (mut items, mut times) = (Vec::new(), Vec::new());
        let mut size = 0;
        while let Some(item) = self.source.next()? {
            if !self.is_wanted(&item) {
                continue;
            }
            size += item.size() + size_of::<u64>();
            if size > SIZE_MAX {
                let cause = "the jobs need more than 256 MiB of memory, and --durations sorts them before the first one starts";
                return Err(Failure::usage(cause).remedy("leave out --durations"));
            }
            let durations = self.durations.as_ref();
            times.push(durations.map_or(0, |durations| durations.of(&item.command)));
            items.push(item);
        }
        let parts = balance::assign(&times, self.shard.count());
        let mut here = Vec::new();
        // The job log is asked in the order of the list.
        for ((item, time), part) in items.into_iter().zip(times).zip(parts) {
            if part == self.shard.index() {
                here.push((time, self.unless_done(item)?));
            }
        }
        if let Some(submitted) = &self.submitted {
            let numbers = here.iter().filter_map(|(_, selected)| match selected {
                Selected::Run(item) => Some(item.number),
                _ => None,
            });
            submitted.add(numbers);
        }
        // The sort is stable, so jobs of the same duration stay in the order of the list.
        here.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        let progress = &mut self.progress;
        progress.sorted = here.into_iter().map(|(_, selected)| selected).collect();
        progress.is_sorted = true;
        Ok(())
    }

    /// Whether the jobs that wait for their turn are known already.
    pub(crate) fn has_submitted(&self) -> bool {
        self.durations.is_some()
    }

    /// Whether the next call returns without blocking.
    pub(crate) fn has_buffered_item(&self) -> bool {
        !self.progress.sorted.is_empty() || self.source.has_buffered_item()
    }

    /// The estimated number of jobs of this part in all rounds, including those that an earlier run
    /// has done.
    pub(crate) fn estimate(&self) -> Option<u64> {
        let rounds = self.source.rounds()?;
        let in_round = match (self.progress.is_sorted, &self.failed) {
            (true, _) => self.progress.in_round,
            (false, Some(_)) => return None,
            (false, None) => self.shard.count_in(self.source.estimate()?),
        };
        Some(in_round.saturating_mul(rounds.into()))
    }

    /// The number of jobs of this part so far.
    pub(crate) fn selected(&self) -> u64 {
        self.progress.selected
    }
}

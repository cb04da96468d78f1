//! The claims of active jobs, and the jobs that wait for a group.

use std::collections::{HashMap, VecDeque};

use crate::run::claim::Claim;
use crate::run::job::Job;

/// Weights and groups. It is empty, and costs nothing, as long as no job has a claim.
#[derive(Default)]
pub(super) struct Claims {
    /// The claims of active jobs, by slot.
    active: HashMap<u32, Claim>,
    /// By how much the weights of active jobs exceed one each.
    extra: usize,
    /// The groups that have an active job, or jobs that wait.
    groups: HashMap<Box<str>, Group>,
    /// The number of jobs that wait for a group. While one waits, a job of the group is active, or
    /// the one that waited first was returned by `remove` and has not been added yet.
    waiting: usize,
}

#[derive(Default)]
struct Group {
    is_active: bool,
    /// In order.
    waiting: VecDeque<Job>,
}

impl Claims {
    pub(super) fn extra(&self) -> usize {
        self.extra
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Notes that a job is active.
    pub(super) fn add(&mut self, slot: u32, claim: &Claim) {
        self.extra += claim.weight as usize - 1;
        if let Some(group) = &claim.group {
            self.groups.entry(group.clone()).or_default().is_active = true;
        }
        self.active.insert(slot, claim.clone());
    }

    /// Whether the group of a job has an active job.
    pub(super) fn is_busy(&self, claim: &Claim) -> bool {
        let name = claim.group.as_ref();
        name.and_then(|name| self.groups.get(name))
            .is_some_and(|group| group.is_active)
    }

    /// Keeps a job whose group has an active job, and returns any other.
    pub(super) fn wait(&mut self, job: Job) -> Option<Job> {
        let name = job.claim().and_then(|claim| claim.group.as_ref());
        match name.and_then(|name| self.groups.get_mut(name)) {
            Some(group) if group.is_active => {
                group.waiting.push_back(job);
                self.waiting += 1;
                None
            }
            _ => Some(job),
        }
    }

    /// Notes that a job is not active any more. Returns the job that waited first for its group.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Job> {
        if self.active.is_empty() {
            return None;
        }
        let claim = self.active.remove(&slot)?;
        self.extra -= claim.weight as usize - 1;
        let name = claim.group?;
        let group = self.groups.get_mut(&name)?;
        group.is_active = false;
        let next = group.waiting.pop_front();
        if group.waiting.is_empty() {
            self.groups.remove(&name);
        }
        self.waiting -= usize::from(next.is_some());
        next
    }

    /// Forgets the jobs that wait.
    pub(super) fn clear_waiting(&mut self) {
        for group in self.groups.values_mut() {
            group.waiting.clear();
        }
        self.waiting = 0;
    }
}

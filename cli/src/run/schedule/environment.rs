//! The variables that describe a job in its environment.

use exitring::Command;

use crate::run::job::Job;

/// The job's number, as `{#}`.
pub(crate) const JOB: &str = "EXITRING_JOB";
/// The job's slot, as `{%}`.
pub(crate) const SLOT: &str = "EXITRING_SLOT";
/// The number of the attempt, from 1.
pub(crate) const ATTEMPT: &str = "EXITRING_ATTEMPT";

/// Sets the variables of a job. Those that are the same for all jobs are in the environment of this
/// process, which jobs inherit.
pub(super) fn describe_job(command: &mut Command, job: &Job) {
    command
        .env(JOB, job.number.to_string())
        .env(SLOT, job.slot.to_string())
        .env(ATTEMPT, job.attempt.to_string());
}

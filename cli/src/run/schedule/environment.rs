//! The variables that describe a job in its environment.

use exitring::Command;

use crate::run::job::Job;

/// The job's number, as `{#}`.
pub(crate) const JOB: &str = "EXITRING_JOB";
/// The job's slot, as `{%}`.
const SLOT: &str = "EXITRING_SLOT";
/// The number of the attempt, from 1.
const ATTEMPT: &str = "EXITRING_ATTEMPT";

/// With `--repeat`: which of the times this is, from 1.
const REPEAT: &str = "EXITRING_REPEAT";

/// The part of the list that the run has, as `--shard` takes it. It is the same for all jobs.
pub(crate) const SHARD: &str = "EXITRING_SHARD";
/// All variables that describe a job.
pub(crate) const OF_EACH_JOB: [&str; 5] = [JOB, SLOT, ATTEMPT, REPEAT, SHARD];

/// Sets the variables of a job. Those that are the same for all jobs are in the environment of this
/// process, which jobs inherit.
pub(super) fn describe_job(command: &mut Command, job: &Job) {
    command
        .env(JOB, job.number.to_string())
        .env(SLOT, job.slot.to_string())
        .env(ATTEMPT, job.attempt.to_string());
    if job.repeat > 0 {
        command.env(REPEAT, job.repeat.to_string());
    }
}

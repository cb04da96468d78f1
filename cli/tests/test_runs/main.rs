//! Test runners: reports, flaky and slow jobs, repeats, and shards by durations.

#[path = "../common/mod.rs"]
mod common;
mod flaky;
mod junit;
mod slow;

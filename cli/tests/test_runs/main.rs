//! Test runners: reports, flaky and slow jobs, repeats, and shards by durations.

mod clock;
mod combinations;
#[path = "../common/mod.rs"]
mod common;
mod durations;
mod flaky;
mod junit;
mod recipes;
mod repeat;
mod slow;

//! Random actions on processes and watchers, checked against a model that knows only `waitpid`: the
//! end of each process, and what each callback, wait and queue must therefore have reported.
//!
//! - `action`: the actions, and how they are chosen.
//! - `process`: a process and its handles, and what the kernel reports about it.
//! - `world`: the watcher, the processes, and the checks.
//!
//! `PROPTEST_CASES` sets the number of cases; `.ci/run` uses 10,000.

#[path = "model/action.rs"]
mod action;
mod common;
#[path = "model/process.rs"]
mod process;
#[path = "model/world.rs"]
mod world;

use action::any_action;
use exitring::Backend;
use proptest::prelude::*;
use proptest::test_runner::Config;
use world::World;

proptest! {
    #![proptest_config(Config {
        // Shrinking runs real processes again and again.
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn every_random_sequence_of_actions_agrees_with_waitpid(
        actions in prop::collection::vec(any_action(), 1..40),
        workers in 0_usize..3,
        capacity in 1_usize..4,
        epoll in any::<bool>(),
        drop_early in prop::bool::weighted(0.2),
    ) {
        let backend = if epoll { Backend::Epoll } else { Backend::Uring };
        let mut world = World::new(backend, workers, capacity);
        for action in &actions {
            world.perform(action);
        }
        match drop_early {
            true => world.drop_early(),
            false => world.end(),
        }
    }
}

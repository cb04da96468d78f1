//! The actions of a random sequence.

use proptest::prelude::*;

/// One action. A number chooses among the processes or callbacks that exist.
#[derive(Clone, Debug)]
pub enum Action {
    /// Forks a child that the watcher owns.
    ForkOwned,
    /// Forks a child that the test reaps.
    Fork,
    /// Adds another watch of a child that is not owned.
    Watch(usize),
    /// Drops the last handle of a process.
    DropHandle(usize),
    /// Adds a callback to the last handle of a process.
    OnExit(usize),
    /// Cancels a callback.
    Cancel(usize),
    /// Adds the last handle of a process to the queue of exits.
    Add(usize),
    /// Makes a process exit with a code.
    Exit(usize, u8),
    /// Kills a process, through its handle if it is owned.
    Kill(usize),
    /// Stops and continues a process, which is no exit.
    Stop(usize),
    /// Reaps a process, before or after the watcher sees its exit.
    Reap(usize),
    /// Waits with the watcher for a process that ends.
    Wait(usize),
    /// Lets other threads run.
    Yield,
}

pub fn any_action() -> impl Strategy<Value = Action> {
    let index = || 0_usize..8;
    prop_oneof![
        3 => Just(Action::ForkOwned),
        3 => Just(Action::Fork),
        4 => index().prop_map(Action::Watch),
        2 => index().prop_map(Action::DropHandle),
        6 => index().prop_map(Action::OnExit),
        3 => index().prop_map(Action::Cancel),
        2 => index().prop_map(Action::Add),
        4 => (index(), any::<u8>()).prop_map(|(index, code)| Action::Exit(index, code)),
        2 => index().prop_map(Action::Kill),
        1 => index().prop_map(Action::Stop),
        2 => index().prop_map(Action::Reap),
        2 => index().prop_map(Action::Wait),
        1 => Just(Action::Yield),
    ]
}

//! Callbacks that report an exit or block their thread, and a guard that acts when it is dropped.

use std::sync::mpsc::{self, Receiver, Sender};

use exitring::{Exit, Outcome, Watch};

use super::receive;

/// Adds a callback that sends the exit.
pub fn exit_receiver(watch: &Watch) -> Receiver<Exit> {
    let (sender, receiver) = mpsc::channel();
    watch
        .on_exit(move |exit| sender.send(exit.clone()).unwrap())
        .expect("a callback is accepted");
    receiver
}

/// Adds a callback that sends the outcome.
pub fn outcome_receiver(watch: &Watch) -> Receiver<Outcome> {
    let (sender, receiver) = mpsc::channel();
    watch
        .on_exit(move |exit| sender.send(exit.outcome()).unwrap())
        .expect("a callback is accepted");
    receiver
}

/// Blocks the thread that runs the callbacks of `watch` until the returned sender is dropped. The
/// process must have ended, or be about to end: the call returns when the callback runs.
#[track_caller]
pub fn block_in_callback(watch: &Watch) -> Sender<()> {
    let (release, released) = mpsc::channel();
    let (started, has_started) = mpsc::channel();
    watch
        .on_exit(move |_| {
            started.send(()).unwrap();
            let _ = released.recv();
        })
        .expect("a callback is accepted");
    receive(&has_started);
    release
}

/// Calls a function when it is dropped.
pub struct OnDrop<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

//! Which callback waits for which, so that no two wait for each other.
//!
//! User code may call [`Watch::cancel`](crate::Watch::cancel) and drop a watcher in a callback, and
//! in the `Drop` of what a callback captured; both wait for others to end. The nodes here are
//! callbacks that are run or dropped, and the threads that do so; an edge says "cannot end before".
//! An edge is added only if it closes no circle, checked and added under one lock, so whoever
//! would close one is told instead of waiting for ever. Ids are never used twice, so an edge to
//! what has ended meanwhile leads nowhere and does no harm.
//!
//! One graph serves all watchers of the program: a callback of one may cancel a callback
//! of another. A thread that runs no callback is in no circle: nothing here waits for it.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use crate::callback::CallbackId;
use crate::per_process::PerProcess;

/// A callback, or (by an id that no callback has) a thread that runs callbacks.
pub(crate) type Node = CallbackId;

type Edge = (Node, Node);

static EDGES: PerProcess<Mutex<Vec<Edge>>> = PerProcess::new();

crate::sync::thread_local! {
    /// What cannot end before this thread goes on: itself first, then what it runs or drops.
    #[allow(clippy::missing_const_for_thread_local, reason = "the model checker's cannot be")]
    static HERE: RefCell<Vec<Node>> = RefCell::new(Vec::new());
}

/// Runs `f` as (a part of) the node.
pub(crate) fn within<T>(node: Node, f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            HERE.with(|here| here.borrow_mut().pop());
        }
    }
    HERE.with(|here| here.borrow_mut().push(node));
    // Also if `f` panics.
    let _leave = Leave;
    f()
}

/// The announcement that this thread waits for a node; ends when dropped.
pub(crate) struct Waiting(Vec<Edge>);

/// Announces that this thread is about to wait for the end of `target`. `None` if that
/// could never come: this thread is in it, or it waits for this thread.
pub(crate) fn wait_for(target: Node) -> Option<Waiting> {
    HERE.with(|here| {
        let here = here.borrow();
        if here.is_empty() {
            return Some(Waiting(Vec::new()));
        }
        let mut edges = EDGES.get().lock().unwrap_or_else(PoisonError::into_inner);
        if here.iter().any(|me| reaches(&edges, target, *me)) {
            return None;
        }
        let new: Vec<Edge> = here.iter().map(|me| (*me, target)).collect();
        edges.extend(&new);
        Some(Waiting(new))
    })
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut edges = EDGES.get().lock().unwrap_or_else(PoisonError::into_inner);
        for mine in &self.0 {
            if let Some(index) = edges.iter().position(|edge| edge == mine) {
                edges.swap_remove(index);
            }
        }
    }
}

/// Whether `from` is `to`, or waits for it, itself or through others. The
/// graph has no circle, so this ends; it has a few edges per blocked callback, so it is small.
fn reaches(edges: &[Edge], from: Node, to: Node) -> bool {
    from == to
        || edges
            .iter()
            .any(|(waiter, target)| *waiter == from && reaches(edges, *target, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_oneself_is_refused() {
        let me = Node::next();
        within(me, || assert!(wait_for(me).is_none()));
    }

    #[test]
    fn the_one_who_would_close_a_circle_is_refused() {
        let [a, b, c] = [(); 3].map(|()| Node::next());
        let a_waits_for_b = within(a, || wait_for(b)).expect("no circle yet");
        let b_waits_for_c = within(b, || wait_for(c)).expect("no circle yet");
        assert!(within(c, || wait_for(a)).is_none());
        drop(b_waits_for_c);
        assert!(within(c, || wait_for(a)).is_some());
        drop(a_waits_for_b);
    }

    #[test]
    fn a_thread_waits_with_all_that_it_is_in() {
        let [thread, outer, inner, other] = [(); 4].map(|()| Node::next());
        let waits = within(thread, || {
            within(outer, || within(inner, || wait_for(other)))
        });
        let waits = waits.expect("no circle yet");
        for node in [thread, outer, inner] {
            assert!(within(other, || wait_for(node)).is_none());
        }
        drop(waits);
        assert!(within(other, || wait_for(thread)).is_some());
    }

    #[test]
    fn a_thread_that_runs_no_callback_may_wait_for_any() {
        assert!(wait_for(Node::next()).is_some());
    }
}

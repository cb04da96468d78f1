//! Which thread waits for which, so that no two wait for each other.
//!
//! User code runs on the threads of watchers: callbacks, wakers, and the `Drop` of what they captured. It may
//! make every blocking call of this crate, and each of them announces here what it waits for:
//!
//! | call | waits for |
//! |---|---|
//! | `Watch::cancel`, `ChildPidWatcher::unregister_callback` | the callback |
//! | `Watch::wait`, `wait_timeout`, the same of `Child`, `Child::wait_with_output` | the ring thread of the watcher |
//! | `Exits::recv`, `recv_timeout`, `recv_batch`, and its iterators | the ring threads of all watchers whose exits are to come |
//! | the drop of a `Watcher` or a `ChildPidWatcher` | its ring thread and its workers |
//! | `Watcher::watch` and its kin, for at most 50 ms when descriptors are short | its ring thread |
//!
//! The nodes are callbacks that are run or dropped, and the threads that do so; an edge says "cannot go on
//! before". An edge is added only if it closes no cycle, checked and added under one lock, so the call that would close
//! one returns an error instead of waiting for ever. Ids are never used twice, so an edge to
//! what has ended meanwhile leads nowhere and does no harm.
//!
//! One graph serves all watchers of the program: a callback of one may cancel a callback
//! of another. A thread that runs no user code for a watcher is in no cycle: nothing here waits for it.
//!
//! All of it works while the locals of a thread are being destroyed, where handles may be dropped, too: what is kept
//! per thread has no destructor.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sync::per_process::PerProcess;
use crate::types::callback::CallbackId;

/// A callback, or (by an id that no callback has) a thread of a watcher.
pub(crate) type Node = CallbackId;

type Edge = (Node, Node);

static EDGES: PerProcess<Mutex<Vec<Edge>>> = PerProcess::new();

crate::sync::thread_local! {
    /// What cannot go on before this thread does.
    #[allow(clippy::missing_const_for_thread_local, reason = "the model checker's cannot be")]
    static HERE: ManuallyDrop<Here> = ManuallyDrop::new(Here::default());
}

#[derive(Default)]
struct Here {
    /// The thread itself, if it is a watcher's; to its very end, when its other locals are destroyed.
    thread: Cell<Option<Node>>,
    /// It will run callbacks, so it keeps the memory for what is below.
    runs: Cell<bool>,
    /// The callbacks that it runs or drops, the innermost last.
    callbacks: RefCell<Vec<Node>>,
}

impl Here {
    fn is_empty(&self) -> bool {
        self.thread.get().is_none() && self.callbacks.borrow().is_empty()
    }

    fn nodes(&self) -> Vec<Node> {
        let callbacks = self.callbacks.borrow();
        self.thread
            .get()
            .into_iter()
            .chain(callbacks.iter().copied())
            .collect()
    }

    /// Nothing else frees it: there is no destructor.
    fn free_if_done(&self) {
        let mut callbacks = self.callbacks.borrow_mut();
        if callbacks.is_empty() && !self.runs.get() {
            *callbacks = Vec::new();
        }
    }
}

/// Runs `f`, which is all that this thread does, as the thread's node.
pub(crate) fn as_thread<T>(node: Node, f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            HERE.with(|here| {
                here.runs.set(false);
                here.free_if_done();
            });
        }
    }
    HERE.with(|here| {
        here.thread.set(Some(node));
        here.runs.set(true);
    });
    // Also if `f` panics.
    let _leave = Leave;
    f()
}

/// Runs `f` as (a part of) the callback.
pub(crate) fn within<T>(callback: Node, f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            HERE.with(|here| {
                here.callbacks.borrow_mut().pop();
                here.free_if_done();
            });
        }
    }
    HERE.with(|here| here.callbacks.borrow_mut().push(callback));
    // Also if `f` panics.
    let _leave = Leave;
    f()
}

/// The announcement that this thread waits for a node; ends when dropped.
pub(crate) struct Waiting(Vec<Edge>);

/// Announces that this thread is about to wait for `target`. `None` if that
/// could never come: this thread is in it, or it waits for this thread.
pub(crate) fn wait_for(target: Node) -> Option<Waiting> {
    wait_for_any([target])
}

/// As [`wait_for`], for whichever of several comes first. `None` also if only one of them could never come: the
/// caller may try again when that has changed.
pub(crate) fn wait_for_any(targets: impl IntoIterator<Item = Node>) -> Option<Waiting> {
    HERE.with(|here| {
        if here.is_empty() {
            return Some(Waiting(Vec::new()));
        }
        let here = here.nodes();
        let mut edges = edges();
        let mut new = Vec::new();
        for target in targets {
            if here.iter().any(|me| reaches(&edges, target, *me)) {
                return None;
            }
            new.extend(here.iter().map(|me| (*me, target)));
        }
        edges.extend(&new);
        Some(Waiting(new))
    })
}

fn edges() -> MutexGuard<'static, Vec<Edge>> {
    EDGES.get().lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    /// Whether anything could wait for this thread, so that there is something to announce.
    pub(crate) fn is_announced(&self) -> bool {
        !self.0.is_empty()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut edges = edges();
        for mine in &self.0 {
            if let Some(index) = edges.iter().position(|edge| edge == mine) {
                edges.swap_remove(index);
            }
        }
    }
}

/// Whether `from` is `to`, or waits for it, itself or through others. The
/// graph has no cycle, so this ends; it has a few edges per blocked callback, so it is small.
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
    fn the_wait_that_would_close_a_cycle_is_refused() {
        let [a, b, c] = [(); 3].map(|()| Node::next());
        let a_waits_for_b = within(a, || wait_for(b)).expect("no cycle yet");
        let b_waits_for_c = within(b, || wait_for(c)).expect("no cycle yet");
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
        let waits = waits.expect("no cycle yet");
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

    #[test]
    fn a_wait_for_several_is_refused_if_one_of_them_could_never_come() {
        let [a, b, c] = [(); 3].map(|()| Node::next());
        let waits = within(a, || wait_for_any([b, c])).expect("no cycle yet");
        assert!(within(c, || wait_for_any([b, a])).is_none());
        assert!(within(c, || wait_for(b)).is_some());
        drop(waits);
        assert!(within(c, || wait_for_any([b, a])).is_some());
    }

    #[test]
    fn a_thread_is_itself_until_its_locals_are_destroyed() {
        struct Last(Node, std::sync::mpsc::Sender<bool>);
        impl Drop for Last {
            fn drop(&mut self) {
                let refused = within(Node::next(), || wait_for(self.0)).is_none();
                let _ = self.1.send(refused);
            }
        }
        thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
        let (sender, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let me = Node::next();
            as_thread(me, || LAST.set(Some(Last(me, sender))));
        })
        .join()
        .expect("no panic");
        assert_eq!(seen.recv(), Ok(true));
    }
}

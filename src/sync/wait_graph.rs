//! The wait graph: which thread or callback waits for which. It refuses waits that would deadlock.
//!
//! Code of the user runs on the threads of watchers: callbacks, wakers, and the destructors of what
//! they capture. It may make every blocking call of this crate. Each blocking call announces here
//! what it waits for:
//!
//! | call | waits for |
//! |---|---|
//! | `Watch::cancel`, `ChildPidWatcher::unregister_callback` | the callback |
//! | `Watch::wait`, `wait_timeout`, the same methods of `Child`, `Child::wait_with_output` | the ring thread of the watcher |
//! | `Exits::recv`, `recv_timeout`, `recv_batch`, and its iterators | the ring threads of all watchers whose exits are outstanding |
//! | the drop of a `Watcher` or a `ChildPidWatcher` | its ring thread and its workers |
//! | `Watcher::watch` and similar methods, for 50 ms at a time if descriptors are scarce | its ring thread |
//!
//! The nodes are the callbacks that run or are being dropped, and the threads that do so. An edge
//! from A to B means that A cannot continue before B does. An edge is added only if it closes no
//! cycle; the check and the addition are made under one lock. So the call that would close a cycle
//! returns an error instead of blocking forever. Ids are never reused, so an edge to a node that
//! has ended leads nowhere and does no harm.
//!
//! All watchers of a program share one graph, because a callback of one watcher may cancel a
//! callback of another. A thread that runs no user code for a watcher is in no cycle, because
//! nothing here waits for it.
//!
//! The graph also works while the thread-local variables of a thread are being destroyed, where
//! handles may be dropped: the thread-local state here has no destructor.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::Stop;
use crate::sync::per_process::{PerProcess, ProcessIdentity};
use crate::types::callback::CallbackId;

/// A callback, or a thread of a watcher (with an id that no callback has).
pub(crate) type Node = CallbackId;

type Edge = (Node, Node);

static EDGES: PerProcess<Mutex<Vec<Edge>>> = PerProcess::new();

crate::sync::thread_local! {
    /// The nodes that cannot continue before this thread does.
    #[allow(
        clippy::missing_const_for_thread_local,
        reason = "thread-local variables of loom cannot be const"
    )]
    static CURRENT: ManuallyDrop<Current> = ManuallyDrop::new(Current::default());
}

#[derive(Default)]
struct Current {
    /// The thread itself, if it belongs to a watcher. Kept until the thread ends, while its other
    /// thread-local variables are destroyed.
    thread: Cell<Option<Node>>,
    /// The stop flag of its watcher, while the thread runs callbacks.
    stop: RefCell<Option<Arc<Stop>>>,
    /// Whether the thread will run further callbacks, so that the memory of `callbacks` is kept.
    runs_callbacks: Cell<bool>,
    /// The callbacks that the thread runs or drops, the innermost last.
    callbacks: RefCell<Vec<Node>>,
}

impl Current {
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

    /// Frees the memory of `callbacks`, which no destructor frees.
    fn free_if_done(&self) {
        let mut callbacks = self.callbacks.borrow_mut();
        if callbacks.is_empty() && !self.runs_callbacks.get() {
            *callbacks = Vec::new();
        }
    }
}

/// Runs `f`, which is all that this thread does, as the node of the thread, for the watcher with this
/// stop flag.
pub(crate) fn as_thread<T>(node: Node, stop: &Arc<Stop>, f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.with(|current| {
                current.runs_callbacks.set(false);
                current.stop.take();
                current.free_if_done();
            });
        }
    }
    CURRENT.with(|current| {
        current.thread.set(Some(node));
        current.stop.replace(Some(Arc::clone(stop)));
        current.runs_callbacks.set(true);
    });
    // A guard, in case `f` panics.
    let _leave = Leave;
    f()
}

/// Runs `f` as the callback, or as a part of it.
pub(crate) fn as_callback<T>(callback: Node, f: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.with(|current| {
                current.callbacks.borrow_mut().pop();
                current.free_if_done();
            });
        }
    }
    CURRENT.with(|current| current.callbacks.borrow_mut().push(callback));
    // A guard, in case `f` panics.
    let _leave = Leave;
    f()
}

/// Whether the thread belongs to a watcher that is being dropped, so that the drop waits for it.
pub(crate) fn is_thread_stopping() -> bool {
    CURRENT.with(|current| {
        let stop = current.stop.borrow();
        stop.as_ref().is_some_and(|stop| stop.is_stopping())
    })
}

/// The edges of a wait of this thread, which are removed when it is dropped.
pub(crate) struct Waiting(Vec<Edge>);

/// Announces that this thread is about to wait for `target`.
///
/// Returns `None` if the wait could never end: the thread runs `target`, or `target` waits for the
/// thread.
pub(crate) fn wait_for(target: Node) -> Option<Waiting> {
    wait_for_any([target])
}

/// Announces that this thread is about to wait for the first of several targets.
///
/// Returns `None` even if only one of the waits could never end. The caller may try again when that
/// has changed.
pub(crate) fn wait_for_any(targets: impl IntoIterator<Item = Node>) -> Option<Waiting> {
    CURRENT.with(|current| {
        if current.is_empty() {
            return Some(Waiting(Vec::new()));
        }
        let nodes = current.nodes();
        let mut edges = edges();
        let mut new = Vec::new();
        for target in targets {
            if nodes.iter().any(|node| reaches(&edges, target, *node)) {
                return None;
            }
            new.extend(nodes.iter().map(|node| (*node, target)));
        }
        edges.extend(&new);
        Some(Waiting(new))
    })
}

fn edges() -> MutexGuard<'static, Vec<Edge>> {
    EDGES.get().lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    /// Whether the wait has edges, because something could wait for this thread.
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
        for own in &self.0 {
            if let Some(index) = edges.iter().position(|edge| edge == own) {
                edges.swap_remove(index);
            }
        }
    }
}

/// Whether `from` is `to`, or waits for it directly or through others. The recursion ends because
/// the graph has no cycle. The graph is small: it has a few edges for each blocked callback.
fn reaches(edges: &[Edge], from: Node, to: Node) -> bool {
    from == to
        || edges
            .iter()
            .any(|(waiter, target)| *waiter == from && reaches(edges, *target, to))
}

std::thread_local! {
    /// The process in which this thread is a ring thread. A child that is forked on a ring thread
    /// continues as a copy of that thread, and may build a watcher of its own and wait.
    static RING_THREAD_OF: Cell<Option<ProcessIdentity>> = const { Cell::new(None) };
}

/// Marks the calling thread as a ring thread.
pub(crate) fn mark_ring_thread() {
    RING_THREAD_OF.set(Some(ProcessIdentity::current()));
}

/// Whether the calling thread is the ring thread of any watcher.
pub(crate) fn is_ring_thread() -> bool {
    RING_THREAD_OF
        .get()
        .is_some_and(ProcessIdentity::is_current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_oneself_is_refused() {
        let me = Node::next();
        as_callback(me, || assert!(wait_for(me).is_none()));
    }

    #[test]
    fn the_wait_that_would_close_a_cycle_is_refused() {
        let [a, b, c] = [(); 3].map(|()| Node::next());
        let a_waits_for_b = as_callback(a, || wait_for(b)).expect("no cycle yet");
        let b_waits_for_c = as_callback(b, || wait_for(c)).expect("no cycle yet");
        assert!(as_callback(c, || wait_for(a)).is_none());
        drop(b_waits_for_c);
        assert!(as_callback(c, || wait_for(a)).is_some());
        drop(a_waits_for_b);
    }

    #[test]
    fn a_thread_waits_on_behalf_of_all_its_callbacks() {
        let [thread, outer, inner, other] = [(); 4].map(|()| Node::next());
        let waits = as_callback(thread, || {
            as_callback(outer, || as_callback(inner, || wait_for(other)))
        });
        let waits = waits.expect("no cycle yet");
        for node in [thread, outer, inner] {
            assert!(as_callback(other, || wait_for(node)).is_none());
        }
        drop(waits);
        assert!(as_callback(other, || wait_for(thread)).is_some());
    }

    #[test]
    fn a_thread_without_callbacks_may_wait_for_any_node() {
        assert!(wait_for(Node::next()).is_some());
    }

    #[test]
    fn a_wait_for_several_is_refused_if_one_of_them_could_never_end() {
        let [a, b, c] = [(); 3].map(|()| Node::next());
        let waits = as_callback(a, || wait_for_any([b, c])).expect("no cycle yet");
        assert!(as_callback(c, || wait_for_any([b, a])).is_none());
        assert!(as_callback(c, || wait_for(b)).is_some());
        drop(waits);
        assert!(as_callback(c, || wait_for_any([b, a])).is_some());
    }

    #[test]
    fn a_thread_keeps_its_node_until_its_thread_locals_are_destroyed() {
        struct Last(Node, std::sync::mpsc::Sender<bool>);
        impl Drop for Last {
            fn drop(&mut self) {
                let refused = as_callback(Node::next(), || wait_for(self.0)).is_none();
                let _ = self.1.send(refused);
            }
        }
        thread_local!(static LAST: RefCell<Option<Last>> = const { RefCell::new(None) });
        let (sender, seen) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let me = Node::next();
            as_thread(me, &Arc::default(), || LAST.set(Some(Last(me, sender))));
        })
        .join()
        .expect("no panic");
        assert_eq!(seen.recv(), Ok(true));
    }
}

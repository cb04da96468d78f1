//! Which callback waits for which, so that no two wait for each other.
//!
//! A callback may call [`Watch::cancel`](crate::Watch::cancel) and drop a watcher; both wait for
//! other callbacks to end. The nodes here are callbacks that run, an edge says "cannot end
//! before". An edge is added only if it closes no cycle, checked and added under one lock,
//! so whoever would close one is told instead of waiting for ever. Ids are never used
//! twice, so an edge to a callback that has ended meanwhile leads nowhere and does no harm.
//!
//! One graph serves all watchers of the program: a callback of one may cancel a
//! callback of another.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};

use crate::callback::CallbackId;

static EDGES: Mutex<Vec<(CallbackId, CallbackId)>> = Mutex::new(Vec::new());

thread_local! {
    static CURRENT: Cell<Option<CallbackId>> = const { Cell::new(None) };
}

/// Runs `f` as the callback `id` of this thread.
pub(crate) fn running<T>(id: CallbackId, f: impl FnOnce() -> T) -> T {
    struct Restore(Option<CallbackId>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    // Restored also if `f` panics.
    let _restore = Restore(CURRENT.replace(Some(id)));
    f()
}

/// The callback that this thread runs.
pub(crate) fn current() -> Option<CallbackId> {
    CURRENT.get()
}

/// The announcement that the current callback waits for another; ends when dropped.
pub(crate) struct Waiting(Option<(CallbackId, CallbackId)>);

/// Announces that this thread is about to wait for the end of `target`. `None` if that
/// could never come: `target` is the current callback, or waits for it in turn. A
/// thread that runs no callback may wait for any.
pub(crate) fn wait_for(target: CallbackId) -> Option<Waiting> {
    let Some(me) = current() else {
        return Some(Waiting(None));
    };
    let mut edges = EDGES.lock().unwrap_or_else(PoisonError::into_inner);
    if reaches(&edges, target, me) {
        return None;
    }
    edges.push((me, target));
    Some(Waiting(Some((me, target))))
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(edge) = self.0 {
            let mut edges = EDGES.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = edges.iter().position(|e| *e == edge) {
                edges.swap_remove(index);
            }
        }
    }
}

/// Whether `from` is `to`, or waits for it, itself or through others. The
/// graph has no cycle, so this ends; it has an edge per blocked callback, so it is small.
fn reaches(edges: &[(CallbackId, CallbackId)], from: CallbackId, to: CallbackId) -> bool {
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
        let me = CallbackId::next();
        running(me, || assert!(wait_for(me).is_none()));
    }

    #[test]
    fn the_one_who_would_close_a_cycle_is_refused() {
        let [a, b, c] = [(); 3].map(|()| CallbackId::next());
        let a_waits_for_b = running(a, || wait_for(b)).expect("no cycle yet");
        let b_waits_for_c = running(b, || wait_for(c)).expect("no cycle yet");
        assert!(running(c, || wait_for(a)).is_none());
        drop(b_waits_for_c);
        assert!(running(c, || wait_for(a)).is_some());
        drop(a_waits_for_b);
    }

    #[test]
    fn a_thread_that_runs_no_callback_may_wait_for_any() {
        assert_eq!(current(), None);
        assert!(wait_for(CallbackId::next()).is_some());
    }
}

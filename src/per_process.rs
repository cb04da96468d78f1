//! A static that each process has for itself, so that a forked child does not find a lock locked by a thread that
//! was not copied.

#![allow(unsafe_code)]

use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Made when it is first asked for, and never freed.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Owned<T>>);

struct Owned<T> {
    process: u32,
    value: T,
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(crate) fn get(&self) -> &'static T {
        let process = process::id();
        let mut found = self.0.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or made below, and what was made known is never freed.
            if let Some(owned) = unsafe { found.as_ref() }
                && owned.process == process
            {
                return &owned.value;
            }
            let value = T::default();
            let made = Box::into_raw(Box::new(Owned { process, value }));
            // What the parent's was stays as it is: its threads are not here to unlock it.
            match self
                .0
                .compare_exchange(found, made, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => found = made,
                Err(other) => {
                    // SAFETY: made above, and nobody else knows it.
                    drop(unsafe { Box::from_raw(made) });
                    found = other;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};
    use std::thread;

    #[test]
    fn all_threads_that_ask_first_get_the_same() {
        static COUNT: PerProcess<Mutex<usize>> = PerProcess::new();
        let all = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    all.wait();
                    *COUNT.get().lock().expect("nobody panics") += 1;
                });
            }
        });
        assert_eq!(*COUNT.get().lock().expect("nobody panics"), 8);
    }
}

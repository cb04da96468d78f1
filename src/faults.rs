//! Injected faults: system calls that fail on demand in tests.
//!
//! Each function that makes a descriptor, makes the kernel allocate, submits or waits calls
//! [`inject`] first. Outside tests that does nothing.

#[cfg(not(test))]
mod injection {
    use std::io;

    #[inline(always)]
    pub(crate) fn inject(_call: &'static str) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod injection {
    use std::cell::RefCell;
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// One call fails with `errno`, `times` times, after `after` calls that do not.
    pub(crate) struct Plan {
        pub(crate) call: &'static str,
        pub(crate) errno: i32,
        pub(crate) after: AtomicU32,
        pub(crate) times: AtomicU32,
        pub(crate) failures: AtomicU32,
    }

    thread_local! {
        /// Applies to this thread and to the threads of watchers that it builds, because tests run
        /// in parallel.
        static PLAN: RefCell<Option<Arc<Plan>>> = const { RefCell::new(None) };
    }

    pub(crate) fn plan() -> Option<Arc<Plan>> {
        PLAN.with_borrow(Clone::clone)
    }

    pub(crate) fn set_plan(plan: Option<Arc<Plan>>) {
        PLAN.set(plan);
    }

    pub(crate) fn inject(call: &'static str) -> io::Result<()> {
        let Some(plan) = plan().filter(|plan| plan.call == call) else {
            return Ok(());
        };
        let minus_one = |left: u32| left.checked_sub(1);
        let decrement = |counter: &AtomicU32| {
            counter
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, minus_one)
                .is_ok()
        };
        if decrement(&plan.after) || !decrement(&plan.times) {
            return Ok(());
        }
        plan.failures.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from_raw_os_error(plan.errno))
    }
}

pub(crate) use injection::*;

#[cfg(test)]
mod tests;

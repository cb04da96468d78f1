//! System calls that fail on demand: the seam at which tests show what a failure comes to.
//!
//! Each function that makes a descriptor, has the kernel allocate, submits or waits asks here first. Without tests
//! there is nothing to ask.

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

    /// One call fails, after so many that do not, so many times.
    pub(crate) struct Plan {
        pub(crate) call: &'static str,
        pub(crate) errno: i32,
        pub(crate) after: AtomicU32,
        pub(crate) times: AtomicU32,
        pub(crate) struck: AtomicU32,
    }

    thread_local! {
        /// Of this thread, and of the threads of watchers that it builds: tests run side by side.
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
        let one_less = |left: u32| left.checked_sub(1);
        let down = |counter: &AtomicU32| {
            counter
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                .is_ok()
        };
        if down(&plan.after) || !down(&plan.times) {
            return Ok(());
        }
        plan.struck.fetch_add(1, Ordering::SeqCst);
        Err(io::Error::from_raw_os_error(plan.errno))
    }
}

pub(crate) use injection::*;

#[cfg(test)]
mod tests;

//! Diagnostics for [`tracing`](https://docs.rs/tracing), with the feature `tracing`.
//!
//! There are spans for building a watcher and for spawning, and events for a full queue and for
//! the death of the ring thread. Nothing is traced per exit. Without the feature every function
//! here is empty.
//!
//! A subscriber runs on the thread that calls. A panic in it reaches the caller of `build` or
//! `spawn`; a child that was started then continues, and is reaped. For a full queue and for a
//! death it runs on the ring thread, which delivers no exits meanwhile and catches its panics.
//! That thread has the global subscriber only.

#[cfg(feature = "tracing")]
mod imp {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tracing::span::EnteredSpan;
    use tracing::{Level, error, field, span, warn};

    use crate::error::{BuildError, SpawnError};
    use crate::record::drop_catching_panics;
    use crate::sync::signal_mask;
    use crate::types::stats::Stats;

    const TARGET: &str = "exitring";

    /// The span of a call; it ends when this is dropped.
    pub(crate) struct Span(EnteredSpan);

    /// The span of building a watcher.
    pub(crate) fn build(workers: usize, queue_capacity: usize) -> Span {
        Span(
            span!(
                target: TARGET,
                Level::DEBUG,
                "build",
                workers,
                queue_capacity,
                backend = field::Empty,
                fallback = field::Empty,
                error = field::Empty,
            )
            .entered(),
        )
    }

    /// The span of spawning a child.
    pub(crate) fn spawn(program: &std::ffi::OsStr) -> Span {
        Span(
            span!(
                target: TARGET,
                Level::DEBUG,
                "spawn",
                ?program,
                pid = field::Empty,
                error = field::Empty,
            )
            .entered(),
        )
    }

    impl Span {
        pub(crate) fn built(&self, stats: impl FnOnce() -> Stats) {
            let stats = stats();
            self.0.record("backend", stats.backend);
            if let Some(fallback) = &stats.fallback {
                self.0.record("fallback", fallback.as_str());
            }
        }

        pub(crate) fn not_built(&self, error: &BuildError) {
            self.0.record("error", error as &dyn std::error::Error);
        }

        pub(crate) fn spawned(&self, pid: u32) {
            self.0.record("pid", pid);
        }

        pub(crate) fn not_spawned(&self, error: &SpawnError) {
            self.0.record("error", error as &dyn std::error::Error);
        }
    }

    /// The queue to the workers was found full.
    pub(crate) fn queue_full(backlog: usize) {
        catching(|| warn!(target: TARGET, backlog, "the queue of exits is full"));
    }

    /// The ring thread ends because of an error or a panic.
    pub(crate) fn ring_thread_died(reason: &str) {
        catching(|| error!(target: TARGET, reason, "the ring thread died"));
    }

    /// Runs a subscriber on the ring thread, as other code of the user: with the signal mask of the
    /// builder's thread, and so that a panic does no harm.
    fn catching(emit: impl FnOnce()) {
        signal_mask::apply_builder_mask();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(emit)) {
            drop_catching_panics(payload);
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod imp {
    use crate::error::{BuildError, SpawnError};
    use crate::types::stats::Stats;

    pub(crate) struct Span;

    #[inline(always)]
    pub(crate) fn build(_: usize, _: usize) -> Span {
        Span
    }

    #[inline(always)]
    pub(crate) fn spawn(_: &std::ffi::OsStr) -> Span {
        Span
    }

    impl Span {
        pub(crate) fn built(&self, _: impl FnOnce() -> Stats) {}

        pub(crate) fn not_built(&self, _: &BuildError) {}

        pub(crate) fn spawned(&self, _: u32) {}

        pub(crate) fn not_spawned(&self, _: &SpawnError) {}
    }

    #[inline(always)]
    pub(crate) fn queue_full(_: usize) {}

    #[inline(always)]
    pub(crate) fn ring_thread_died(_: &str) {}
}

pub(crate) use imp::{build, queue_full, ring_thread_died, spawn};

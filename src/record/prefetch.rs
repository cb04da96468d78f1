//! Loading records into the processor's caches ahead of their use.
//!
//! In a storm the records of thousands of children are in no cache, because nothing has used them
//! since their registration. The ring thread and the workers load the next record while the kernel
//! or a callback works on the one before.

#![allow(unsafe_code, reason = "an instruction without a stable function")]

use std::sync::Arc;

use super::delivery_guard::DeliveryGuard;
use super::{Ended, Record};

/// The most common size on the supported processors. Another size costs a few instructions.
const CACHE_LINE: usize = 64;
/// The counters of an `Arc`, which are in front of the record.
const COUNTERS: usize = 2 * size_of::<usize>();

impl DeliveryGuard {
    /// Starts to load the record, and does not wait for it.
    pub(crate) fn prefetch(&self) {
        let record = Arc::as_ptr(self.record()).cast::<u8>();
        prefetch_range(
            record.wrapping_sub(COUNTERS),
            COUNTERS + size_of::<Record>(),
        );
    }

    /// Starts to load the exit. To find it takes the record, which is to be loaded before.
    pub(crate) fn prefetch_exit(&self) {
        if let Some(ended) = self.record().ended.get() {
            prefetch_range(std::ptr::from_ref(ended).cast(), size_of::<Ended>());
        }
    }
}

fn prefetch_range(start: *const u8, length: usize) {
    for offset in (0..length).step_by(CACHE_LINE).chain([length - 1]) {
        prefetch_for_write(start.wrapping_add(offset));
    }
}

fn prefetch_for_write(address: *const u8) {
    // SAFETY: the instruction has no effect on memory or registers, and never faults, whatever the
    // address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

//! Unmaps the memory that a forked child inherits and does not need.
//!
//! Thousands of children that share the pages of one parent are a load of their own, which is not
//! the load of the watcher. To learn whether a page is in use, the kernel walks all processes that
//! map it, and a process that exits meanwhile waits milliseconds for the locks of that walk. A
//! child that has executed another program would share none of these pages.

use super::raw_syscall;
use super::shared_table::ChildSlot;

unsafe extern "C" {
    // Set by the linker, ld and lld (man 3 end): the start of the program, and the end of its code.
    static __executable_start: u8;
    static etext: u8;
}

/// The kept part of the stack, below and above the current frame. A child uses far less.
const STACK: usize = 32 << 10;
/// The kept memory around the thread's control block. The kernel writes the current CPU there
/// (`rseq`).
const THREAD: usize = 8 << 10;

/// Unmaps all memory but the code of the program, the child's part of the shared table, the end of
/// the stack and the surroundings of the thread's control block.
///
/// # Safety
///
/// The process is a fork that has only this thread. From now on it accesses nothing else, and it
/// never returns.
#[inline(always)]
pub(crate) unsafe fn unmap_unneeded(child: &ChildSlot<'_>) {
    let here = 0u8;
    // SAFETY: the function has no preconditions.
    let thread = unsafe { libc::pthread_self() } as usize;
    let stack = (&raw const here).addr();
    let [gates, slot] = child.memory;
    let mut kept = [
        (
            (&raw const __executable_start).addr(),
            (&raw const etext).addr(),
        ),
        gates,
        slot,
        (stack - STACK, stack + STACK),
        (thread - THREAD, thread + THREAD),
    ];
    // A bubble sort of five entries, because the sort functions of `core` may not be inlined.
    for end in (1..kept.len()).rev() {
        for at in 0..end {
            if kept[at].0 > kept[at + 1].0 {
                kept.swap(at, at + 1);
            }
        }
    }
    let page = rustix::param::page_size();
    let mut from = 0;
    for (start, end) in kept {
        let start = start & !(page - 1);
        if start > from {
            raw_syscall::munmap(from, start);
        }
        from = from.max(end.next_multiple_of(page));
    }
}

//! What a forked child inherits and does not need: nearly all memory of its parent.
//!
//! Thousands of siblings that share the pages of one parent are a load of their own, and not the watcher's: the
//! kernel walks all of them whenever it looks at one such page (to learn if it is in use), and whoever exits
//! meanwhile waits for its locks, for milliseconds. A child that exec'ed would share none of it.

use crate::bare;
use crate::board::Seat;

unsafe extern "C" {
    // Set by the linker, ld and lld (man 3 end): where the program begins, and where its code ends.
    static __executable_start: u8;
    static etext: u8;
}

/// Of the stack, below and above here: far more than a child uses.
const STACK: usize = 32 << 10;
/// Around the thread's control block, where the kernel writes on which processor it runs (`rseq`).
const THREAD: usize = 8 << 10;

/// Unmaps all but the program's code, its seat at the board, and the ends of the stack and of the thread's memory.
///
/// # Safety
///
/// The process is a fork with this one thread; it touches nothing else from now on and never returns.
#[inline(always)]
pub(crate) unsafe fn give_up(seat: &Seat<'_>) {
    let here = 0u8;
    // SAFETY: no function with fewer conditions.
    let thread = unsafe { libc::pthread_self() } as usize;
    let stack = (&raw const here).addr();
    let [gates, slot] = seat.memory;
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
    // By hand: what sorts in `core` may not be inlined, and it is five.
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
            bare::unmap(from, start);
        }
        from = from.max(end.next_multiple_of(page));
    }
}

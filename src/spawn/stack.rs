//! The stack of a child that runs in the memory of this process.

use std::cell::Cell;
use std::mem::MaybeUninit;

use super::clone;

/// A child needs a few hundred bytes, or some thousand in a build without optimisation.
const STACK_BLOCKS: usize = 4096;

/// A part of a stack, with its alignment.
#[repr(C, align(16))]
struct StackBlock([u8; 16]);

type Memory = Box<[MaybeUninit<StackBlock>]>;

thread_local! {
    /// A thread that has started a child mostly starts more, and some allocators map and unmap
    /// memory of this size each time.
    static SPARE: Cell<Option<Memory>> = const { Cell::new(None) };
}

/// The memory of a stack. A thread keeps it for its next child.
pub(super) struct ChildStack(Memory);

impl ChildStack {
    pub(super) fn new() -> Self {
        // While a thread ends, it may have no spare memory any more.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        Self(spare.unwrap_or_else(|| Box::new_uninit_slice(STACK_BLOCKS)))
    }

    pub(super) fn stack(&mut self) -> clone::Stack {
        clone::Stack::new(self.0.as_mut_ptr().cast(), size_of_val(&*self.0))
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.0);
        let _ = SPARE.try_with(|spare| spare.set(Some(memory)));
    }
}

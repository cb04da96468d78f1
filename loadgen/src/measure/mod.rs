//! The primitives of a measurement.
//!
//! Children and the measuring process share the memory of `shared_table`: each child has a slot
//! for its planned exit, its actual exit and its delivery. `children` makes the children;
//! `spawn_request` describes one for contestants that start their children themselves; `program` is
//! what children execute that are not forks of this process, with `tiny_elf` as the bytes of the
//! smallest one. `quiet_stdout` keeps their output apart from the result of the run.
//! `unmap` and `raw_syscall` are the part of a child's life after it has unmapped libc.
//! `resident` is memory of the measuring process that makes its forks expensive.
//! `recorder` records and checks what contestants deliver. `clock`, `process` and `environment`
//! read what the kernel accounts; `interrupt` and `progress` serve the user at the terminal.
//!
//! Contestants, scenarios and rounds call these modules. They call only `types`.

pub(crate) mod children;
pub(crate) mod clock;
pub(crate) mod environment;
pub(crate) mod interrupt;
pub(crate) mod process;
pub(crate) mod program;
pub(crate) mod progress;
pub(crate) mod quiet_stdout;
mod raw_syscall;
pub(crate) mod recorder;
pub(crate) mod resident;
pub(crate) mod shared_table;
pub(crate) mod spawn_request;
mod tiny_elf;
mod unmap;

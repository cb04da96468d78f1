//! The list of jobs: its sources, and the thread that reads it.
//!
//! [`reader`] takes commands from [`source`], selects those of its [`shard`], and submits them to
//! the admission. [`source`] reads `lines` of a file or combines the arguments of a [`template`]:
//! `product` has the arguments, `placeholder` says what stands where. `foreign_placeholders`
//! recognises the syntax of other tools, which [`template`] refuses.

mod foreign_placeholders;
mod lines;
mod placeholder;
mod product;
pub(crate) mod reader;
pub(crate) mod shard;
pub(crate) mod source;
mod template;

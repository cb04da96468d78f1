//! The list of jobs.

pub(crate) mod foreign_placeholders;
pub(crate) mod reader;
pub(crate) mod shard;
pub(crate) mod source;
pub(crate) mod template;

//! What jobs write.

pub(crate) mod drainer;
pub(crate) mod job_stream;
pub(crate) mod logs;
pub(crate) mod pipes;
pub(crate) mod std_streams;

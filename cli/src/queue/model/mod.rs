//! The messages of a run. Their formats are stable: fields may be added, and unknown ones are
//! ignored.
//!
//! [`run_spec`] is the first message of a run, [`job_message`] a job, [`record_message`] a result,
//! [`heartbeat`] the heartbeat of a worker. [`log_field`] says where the log of a job is, and
//! [`object_info`] describes the object. [`text`] is a string that may not be UTF-8.

pub(super) mod heartbeat;
pub(super) mod job_message;
pub(super) mod log_field;
pub(super) mod object_info;
pub(super) mod record_message;
pub(super) mod run_spec;
pub(super) mod text;

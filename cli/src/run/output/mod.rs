//! What jobs write.
//!
//! [`options`] are the options of all this. [`destination`] decides where a job writes: to [`logs`], to another file, or to a pipe.
//! [`pipes`] reads the pipes and forwards them line by line (`job_stream`, `output_line`, `long_line`) to
//! [`std_streams`]. With `--keep-order` they wait in [`keep_order`], which knows [`submitted_jobs`]
//! and uses `spool`; [`job_output`] connects it to the streams.
//! With `--watch` it waits for the end in `held_output` (`hold`).
//! With `--report`, `--watch` and `--junit` [`output_tails`] keeps what each job wrote last.
//! At the end of the run [`drainer`] keeps pipes readable that background processes still write to.

pub(crate) mod destination;
pub(crate) mod drainer;
mod held_output;
mod hold;
pub(crate) mod job_output;
pub(crate) mod job_stream;
pub(crate) mod keep_order;
mod log_records;
pub(crate) mod logs;
mod long_line;
pub(crate) mod options;
mod output_line;
pub(crate) mod output_tails;
pub(crate) mod pipes;
mod spool;
pub(crate) mod std_streams;
pub(crate) mod submitted_jobs;

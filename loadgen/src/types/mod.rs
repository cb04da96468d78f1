//! The data of the load generator: what is measured, and what a measurement finds.
//!
//! `kind`, `options` and `scenario` name the contestants and scenarios, and `run_spec` combines
//! them into one run to make. `run` is the result of a run; it is made of `latency` and `warning`.
//! `metric` reads single numbers from a run. `environment` describes the machine. `width`,
//! `byte_size` and `baseline_name` are values of options.
//!
//! Every other module may use these modules. They use nothing but each other.

pub(crate) mod baseline_name;
pub(crate) mod byte_size;
pub(crate) mod environment;
pub(crate) mod kind;
pub(crate) mod latency;
pub(crate) mod metric;
pub(crate) mod options;
pub(crate) mod run;
pub(crate) mod run_spec;
pub(crate) mod scenario;
pub(crate) mod warning;
pub(crate) mod width;

//! Commands: a program, its arguments and environment, and the attributes of its process.
//!
//! A [`Command`] is plain data. [`Watcher::spawn`](crate::Watcher::spawn) starts it: the files of
//! [`spawn`](crate::spawn) turn it into what the child needs, and make the child.
//!
//! - [`builder`]: `Command` with program, arguments, environment, and standard streams.
//! - [`attributes`]: what else the child sets for itself before it executes the program, and the
//!   methods of `Command` for that.
//! - [`c_strings`], [`environment`], [`search_path`]: the strings that the kernel is given.
//! - [`stdio`], [`resource`], [`scheduling`]: values of the setters.

pub(crate) mod attributes;
pub(crate) mod builder;
pub(crate) mod c_strings;
pub(crate) mod environment;
pub(crate) mod resource;
pub(crate) mod scheduling;
pub(crate) mod search_path;
pub(crate) mod stdio;

pub use builder::Command;
pub use environment::Environment;
pub use resource::Resource;
pub use scheduling::Scheduling;
pub use stdio::Stdio;

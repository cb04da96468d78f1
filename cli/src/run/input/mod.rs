//! The list of jobs: its sources, and the thread that reads it.
//!
//! [`reader`] submits the jobs of a [`selection`] to the admission. The selection takes commands
//! from [`source`], has those of its [`shard`], which `slurm` or another launcher may select, and may sort them; `balance` makes shards that take
//! equally long. `rounds` repeats the list. [`source`] makes each [`item`] from `lines` of a file or from the arguments of a [`template`], which `opening` opens:
//! `product` has the arguments, `batches` takes several at a time, `held_list` has those in memory,
//! and `separator` and [`delimiter`] say how lists are written. `word` is a word of a template, and
//! `placeholder` says what stands where; `extras` are words of other options, with
//! `job_stdin`. `foreign_placeholders` recognises the syntax of other
//! tools, which `word` refuses.

mod balance;
mod batches;
pub(crate) mod delimiter;
mod directive;
mod extras;
mod foreign_placeholders;
mod held_list;
pub(crate) mod item;
mod job_stdin;
mod lines;
mod opening;
mod placeholder;
mod product;
pub(crate) mod reader;
mod rounds;
pub(crate) mod selection;
mod separator;
pub(crate) mod shard;
mod slurm;
pub(crate) mod source;
mod template;
mod word;

pub(crate) use self::template::list_files;

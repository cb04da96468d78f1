//! The report of a measurement and its presentations.
//!
//! `results` is what is saved as JSON: the runs, and their `summary`. `table`, `html` and `hgrm`
//! present a report, `condition` evaluates `--fail-if` against it, and `stdout` prints.
//!
//! `rounds` fills a report. Nothing here measures; the modules use only `types`.

pub(crate) mod condition;
pub(crate) mod hgrm;
pub(crate) mod html;
pub(crate) mod results;
pub(crate) mod stdout;
pub(crate) mod summary;
pub(crate) mod table;

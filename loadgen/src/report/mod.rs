//! The report of a measurement and its presentations.
//!
//! `results` is what is saved as JSON: the runs, and their `summary`. The summary contains each
//! `ratio` to the reference, with its interval from the `bootstrap`. `table`, `html` and `hgrm`
//! present a report, and `explanation` is their text about the method. `condition` evaluates
//! `--fail-if` against a report; its left side is a `quantity`. `stdout` prints.
//!
//! `rounds` fills a report. Nothing here measures; the modules use only `types`.

pub(crate) mod bootstrap;
pub(crate) mod condition;
pub(crate) mod explanation;
pub(crate) mod hgrm;
pub(crate) mod html;
mod quantity;
pub(crate) mod ratio;
pub(crate) mod results;
pub(crate) mod stdout;
pub(crate) mod summary;
pub(crate) mod table;

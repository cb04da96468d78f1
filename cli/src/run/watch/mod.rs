//! The full-screen view of a run (`--watch`), on standard error.
//!
//! [`display`] decides when the view is drawn, and writes it without blocking. [`view`] lays it out
//! from a [`snapshot`] of the run. [`screen`] takes the terminal and returns it as it was.

pub(crate) mod display;
mod screen;
pub(crate) mod snapshot;
mod view;

//! The HTML page of saved results: tables and charts, without scripts and without references to
//! other files.
//!
//! `page` composes the page from `tables` and `figures`. `figures` selects the charts, which
//! `curves` and `bars` draw, with the scales of `axis` and the colours and marks of `style`.

mod axis;
mod bars;
mod curves;
mod figures;
mod page;
mod style;
mod tables;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::results::Report;

pub(crate) fn write(reports: &[Report], path: &Path) -> Result<()> {
    let page = page::page(reports).context("drawing the charts")?;
    fs::write(path, page.into_string()).with_context(|| format!("writing {}", path.display()))
}

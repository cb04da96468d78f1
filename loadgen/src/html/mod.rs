//! One page of HTML from saved results: tables and charts, with nothing in it to run or to fetch.

mod axis;
mod bars;
mod curves;
mod figures;
mod looks;
mod page;
mod tables;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::report::Report;

pub(crate) fn write(reports: &[Report], path: &Path) -> Result<()> {
    let page = page::page(reports).context("drawing the charts")?;
    fs::write(path, page.into_string()).with_context(|| format!("writing {}", path.display()))
}

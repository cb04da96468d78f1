//! `exitring man`: the man pages, one for each subcommand.
//!
//! The options come from the command line's definition. The reference sections of each page are a
//! text file in `pages/`, which `sections` turns into roff.

mod sections;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use crate::code;
use crate::failure::Failure;

/// Write the man pages, exitring(1) and one for each subcommand
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  exitring man /usr/local/share/man/man1")]
pub(crate) struct Options {
    /// The directory to write to, which is created if it does not exist
    dir: PathBuf,
}

/// Writes the pages of `exitring` and its subcommands. Returns the exit code.
pub(crate) fn write(options: &Options, exitring: Command) -> Result<u8, Failure> {
    match write_pages(exitring, &options.dir) {
        Ok(()) => Ok(code::OK),
        Err(error) => Err(Failure::writing(&options.dir.display().to_string(), &error)),
    }
}

fn write_pages(exitring: Command, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut exitring = exitring.disable_help_subcommand(true);
    exitring.build();
    let subcommands = exitring.get_subcommands().filter(|sub| !sub.is_hide_set());
    let pages = subcommands.map(|sub| (sub.get_name().to_owned(), sub.clone()));
    let mut pages: Vec<_> = pages.collect();
    let nested = pages.iter().flat_map(|(name, command)| {
        let nested = command.get_subcommands();
        nested.map(move |sub| (format!("{name}-{}", sub.get_name()), sub.clone()))
    });
    let nested: Vec<_> = nested.collect();
    pages.extend(nested);
    pages.push(("exitring".into(), exitring));
    for (name, command) in pages {
        write_page(&name, command, dir)?;
    }
    Ok(())
}

fn write_page(name: &str, command: Command, dir: &Path) -> io::Result<()> {
    let has_subcommands = command.has_subcommands();
    // An empty date would be left out, and shift the arguments of TH.
    let page = Man::new(command)
        .date("\"\"")
        .source(concat!("exitring ", env!("CARGO_PKG_VERSION")))
        .manual("exitring Manual");
    let mut roff = Vec::new();
    page.render_title(&mut roff)?;
    page.render_name_section(&mut roff)?;
    page.render_synopsis_section(&mut roff)?;
    page.render_description_section(&mut roff)?;
    roff.write_all(options_section(&page)?.as_bytes())?;
    if has_subcommands {
        page.render_subcommands_section(&mut roff)?;
    }
    sections::of(name).to_writer(&mut roff)?;
    File::create(dir.join(page.get_filename()))?.write_all(&roff)
}

/// The options, with their groups as subsections in place of sections.
fn options_section(page: &Man) -> io::Result<String> {
    let mut roff = Vec::new();
    page.render_options_section(&mut roff)?;
    let roff = String::from_utf8(roff).map_err(io::Error::other)?;
    let roff = roff.replace("\n.SH ", "\n.SS ");
    Ok(roff.replace("\n.SS OPTIONS\n", "\n.SH OPTIONS\n"))
}

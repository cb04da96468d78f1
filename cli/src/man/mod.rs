//! `exitring man`: the man pages, one for each subcommand.
//!
//! The options come from the command line's definition. The reference sections of each page are a
//! text file in `pages/`, which `sections` turns into roff and `text` into plain text.

mod sections;
mod text;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use crate::code;
use crate::failure::Failure;
use crate::stdio;

const EXAMPLES: &str = "\
Examples:
  exitring man run | less
  exitring man /usr/local/share/man/man1";

/// Show a man page as text, or write the man pages to a directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// A subcommand, or exitring; or a directory for all pages
    ///
    /// The page of a subcommand is printed as text. Otherwise the pages are written to the
    /// directory, which is created if it does not exist. A directory that is named like a
    /// subcommand is ./run, for example.
    #[arg(value_name = "SUBCOMMAND|DIR")]
    page: PathBuf,
}

/// Prints the page of a subcommand, or writes the pages of `exitring` and its subcommands. Returns
/// the exit code.
pub(crate) fn man(options: &Options, exitring: Command) -> Result<u8, Failure> {
    let mut pages = pages(exitring);
    let named = |(name, _): &(String, Command)| Path::new(name) == options.page;
    if let Some(index) = pages.iter().position(named) {
        let (name, command) = pages.swap_remove(index);
        let page = text::page(&name, command);
        return match stdio::write_out(page.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::writing("standard output", &error))
            }
            _ => Ok(code::OK),
        };
    }
    match write_pages(pages, &options.page) {
        Ok(()) => Ok(code::OK),
        Err(error) => Err(Failure::writing(
            &options.page.display().to_string(),
            &error,
        )),
    }
}

/// The pages, by the name of the subcommand.
fn pages(exitring: Command) -> Vec<(String, Command)> {
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
    pages
}

fn write_pages(pages: Vec<(String, Command)>, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
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
    sections::roff(name).to_writer(&mut roff)?;
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

//! Opens the lists of jobs.

use std::path::Path;

use super::batches::Batches;
use super::extras::Extras;
use super::held_list::HeldList;
use super::lines::{ItemKind, Lines};
use super::placeholder::ArgumentCount;
use super::product::Product;
use super::separator::{Join, ListSource, ListSpec};
use super::source::{Input, ListOptions};
use super::template;
use crate::failure::Failure;

fn item_kind(options: &ListOptions, without_delimiter: ItemKind) -> ItemKind {
    options.end.map_or(without_delimiter, ItemKind::UpTo)
}

/// Opens FILE, or standard input.
fn open_file(options: &ListOptions, kind: ItemKind) -> Result<Lines, Failure> {
    let file = options.file.as_deref().unwrap_or(Path::new("-"));
    Lines::open(file, kind, !options.template.is_empty())
}

/// Opens the lists that the options name.
pub(super) fn open(options: &ListOptions) -> Result<(Input, Extras), Failure> {
    match options.template.is_empty() {
        true => {
            let kind = item_kind(options, ItemKind::Commands);
            let extras = Extras::parse(options, ArgumentCount::OfLists(1))?;
            Ok((Input::Commands(open_file(options, kind)?), extras))
        }
        false => open_template(options),
    }
}

fn open_template(options: &ListOptions) -> Result<(Input, Extras), Failure> {
    let max_args = options.max_args;
    let (template, count, lists) = template::parse(&options.template, max_args)?;
    let extras = Extras::parse(options, count)?;
    check_lists(options, &lists)?;
    let kind = item_kind(options, ItemKind::Arguments);
    let product = match lists.is_empty() {
        true => Product::of_stream(open_file(options, kind)?),
        false => open_lists(lists, kind)?,
    };
    let input = match max_args {
        Some(max) => Input::Batches(template, Batches::new(product, max)),
        None => Input::Arguments(template, product),
    };
    Ok((input, extras))
}

fn check_lists(options: &ListOptions, lists: &[ListSpec]) -> Result<(), Failure> {
    if let (Some(file), false) = (&options.file, lists.is_empty()) {
        let cause = format!(
            "the arguments come from {} or from ::: and ::::, not from both",
            file.display()
        );
        return Err(Failure::usage(cause).remedy("remove one, or write :::: before the file"));
    }
    let is_file = |list: &&ListSpec| matches!(list.source, ListSource::File(_));
    if options.end.is_some() && !lists.is_empty() && !lists.iter().any(|list| is_file(&list)) {
        let cause = "--null and --delimiter need a list, but the arguments come from :::";
        return Err(Failure::usage(cause).remedy("remove -0 or -d"));
    }
    let is_stdin =
        |list: &&ListSpec| matches!(&list.source, ListSource::File(file) if file == Path::new("-"));
    if lists.iter().filter(is_stdin).count() > 1 {
        return Err(Failure::usage(
            "standard input (-) can be only one of the lists",
        ));
    }
    Ok(())
}

/// Opens the lists of a template. Only the first one may be read while jobs run, if no list is
/// linked with it.
fn open_lists(lists: Vec<ListSpec>, kind: ItemKind) -> Result<Product, Failure> {
    let linked = lists.get(1).is_some_and(|list| list.join == Join::Link);
    let mut product = Product::default();
    // All files are opened before one is read, which may take long.
    let mut opened = Vec::new();
    for (index, ListSpec { join, source }) in lists.into_iter().enumerate() {
        match source {
            ListSource::File(file) => {
                let lines = Lines::open(&file, kind, true)?;
                match index == 0 && join == Join::Combine && !linked {
                    true => product = Product::of_stream(lines),
                    false => opened.push((join, Err(lines))),
                }
            }
            ListSource::Words(words) => opened.push((join, Ok(HeldList::from_words(&words)))),
        }
    }
    for (join, list) in opened {
        let list = match list {
            Ok(list) => list,
            Err(lines) => HeldList::read(lines)?,
        };
        product.add(join, list)?;
    }
    Ok(product)
}

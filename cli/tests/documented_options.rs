//! docs/FROM_PARALLEL.md: what it says of options is tested.

mod common;

use std::path::Path;

use common::*;

/// The cells of the rows of the tables in the documentation.
fn documented_rows() -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FROM_PARALLEL.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let rows = rows.filter_map(|row| row.strip_suffix('|'));
    let rows = rows.map(|row| row.split('|').map(|it| it.trim().to_owned()).collect());
    // The first row of a table names its columns.
    rows.filter(|row: &Vec<String>| row.last().is_some_and(|test| test != "test"))
        .collect()
}

/// What stands between backquotes.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_that_says_same_names_its_test_and_every_test_has_a_row() {
    let source = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
        std::fs::read_to_string(path).unwrap()
    };
    let files =
        ["from_parallel", "from_parallel_options", "from_xargs"].map(|file| (file, source(file)));
    let mut tests: Vec<String> = Vec::new();
    for (file, text) in &files {
        let names = text.split("#[test]\nfn ").skip(1);
        let names = names.filter_map(|rest| rest.split_once('(').map(|(name, _)| name));
        tests.extend(names.map(|name| format!("{file}::{name}")));
    }
    assert!(tests.len() > 10, "{tests:?}");
    let rows = documented_rows();
    assert!(rows.len() > 100, "{} rows", rows.len());
    let help = stdout(&mut exitring(["run", "--help"]));
    let mut named = Vec::new();
    for row in &rows {
        let [_, ours, difference, test] = &row[..] else {
            panic!("a row has four cells: {row:?}");
        };
        let known = ["same", "differs", "none"];
        assert!(
            known.iter().any(|word| difference.starts_with(word)),
            "{row:?}"
        );
        for test in quoted(test) {
            assert!(tests.iter().any(|it| it == test), "{row:?}: no test {test}");
            named.push(test.to_owned());
        }
        assert!(
            !difference.starts_with("same") || !test.is_empty(),
            "a row that says same names its test: {row:?}"
        );
        for option in quoted(ours).filter(|it| it.starts_with('-')) {
            let name = option.split([' ', '=', '[']).next().unwrap_or_default();
            let found = [" ", ",", "\n", "[", "="]
                .iter()
                .any(|after| help.contains(&format!(" {name}{after}")));
            assert!(found, "{row:?}: no option {name}");
        }
    }
    for test in tests {
        assert!(named.contains(&test), "no row for {test}");
    }
}

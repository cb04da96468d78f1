//! A man page as plain text.

use clap::Command;
use clap::builder::Resettable;

use super::sections;

const WIDTH: usize = 80;
/// Of paragraphs, as in the text of man(1).
const INDENT: usize = 7;
/// Of the text of tagged paragraphs.
const INDENT_TAGGED: usize = 14;

/// The page of a subcommand: its options with their long texts, and the sections.
pub(super) fn page(name: &str, command: Command) -> String {
    let command = command.term_width(WIDTH);
    let mut command = command
        .after_help(Resettable::Reset)
        .after_long_help(Resettable::Reset);
    let mut page = command.render_long_help().to_string();
    for text in sections::of(name) {
        append(&mut page, text);
    }
    page
}

fn append(page: &mut String, text: &str) {
    let mut tagged = false;
    for line in text.lines() {
        if let Some(code) = line.strip_prefix("    ") {
            push(page, INDENT + 4, code);
        } else if let Some(heading) = line.strip_prefix("# ") {
            page.push('\n');
            push(page, 0, heading);
            tagged = false;
        } else if let Some(tag) = line.strip_prefix("= ") {
            push(page, INDENT, &tag.replace('`', ""));
            tagged = true;
        } else if line.is_empty() {
            page.push('\n');
            tagged = false;
        } else {
            let indent = if tagged { INDENT_TAGGED } else { INDENT };
            wrap(page, indent, &line.replace('`', ""));
        }
    }
}

/// Appends a paragraph, in lines that are full.
fn wrap(page: &mut String, indent: usize, paragraph: &str) {
    let mut line = String::new();
    for word in paragraph.split(' ') {
        let longer = indent + line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && longer > WIDTH {
            push(page, indent, &line);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push(page, indent, &line);
}

fn push(page: &mut String, indent: usize, line: &str) {
    page.extend([&" ".repeat(indent), line.trim_end(), "\n"]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        let mut page = String::new();
        append(
            &mut page,
            "# STATUS\nUse `-q`.\n\n= `0`\nSuccess.\n\n    $ a\n",
        );
        let expected =
            "\nSTATUS\n       Use -q.\n\n       0\n              Success.\n\n           $ a\n";
        assert_eq!(page, expected);
    }

    #[test]
    fn paragraphs_fill_their_lines() {
        let mut page = String::new();
        wrap(&mut page, INDENT, &["word"; 40].join(" "));
        let lines: Vec<_> = page.lines().map(str::len).collect();
        assert_eq!(lines, [76, 76, 66]);
    }
}

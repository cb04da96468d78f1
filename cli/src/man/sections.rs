//! The reference sections of the man pages.
//!
//! They are text with little markup: `# ` begins a section, `= ` a tagged paragraph, whose text is
//! the next line; four spaces begin a verbatim line; a blank line separates paragraphs, which are
//! one line each; backquotes set words in bold.
//!
//! Examples of options are console sessions: `$ ` and a command, whose further lines begin with
//! `> `, then its output. `...` is output that varies, and `[N]` an exit status other than 0. Tests
//! run them.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// Examples of options, by the name of the subcommand.
const EXAMPLES: &[(&str, &str)] = &[
    ("doctor", include_str!("examples/doctor.txt")),
    ("completions", include_str!("examples/completions.txt")),
    ("exits", include_str!("examples/exits.txt")),
    ("man", include_str!("examples/man.txt")),
    ("run", include_str!("examples/run.txt")),
    ("wait", include_str!("examples/wait.txt")),
    ("watch", include_str!("examples/watch.txt")),
];

/// The text of a page, by the name of the subcommand.
const PAGES: &[(&str, &str)] = &[
    ("completions", include_str!("pages/completions.txt")),
    ("doctor", include_str!("pages/doctor.txt")),
    ("exitring", include_str!("pages/exitring.txt")),
    ("exits", include_str!("pages/exits.txt")),
    ("man", include_str!("pages/man.txt")),
    #[cfg(feature = "queue")]
    ("queue", include_str!("pages/queue.txt")),
    #[cfg(feature = "queue")]
    ("results", include_str!("pages/results.txt")),
    ("run", include_str!("pages/run.txt")),
    #[cfg(feature = "serve")]
    ("serve", include_str!("pages/serve.txt")),
    #[cfg(feature = "queue")]
    ("submit", include_str!("pages/submit.txt")),
    ("wait", include_str!("pages/wait.txt")),
    ("watch", include_str!("pages/watch.txt")),
];

/// The sections of a page and the examples of its options.
pub(super) fn of(name: &str) -> [&'static str; 2] {
    let text = |texts: &[(&str, &'static str)]| {
        let text = texts.iter().find(|(page, _)| *page == name);
        text.map_or("", |(_, text)| *text)
    };
    [text(PAGES), text(EXAMPLES)]
}

/// The sections of a page, as roff.
pub(super) fn roff(name: &str) -> Roff {
    let mut roff = Roff::new();
    for text in of(name) {
        roff.extend([to_roff(text)]);
    }
    roff.control("SH", ["SEE ALSO"]);
    let others = PAGES.iter().filter(|(page, _)| *page != name);
    let mut line = Vec::new();
    for (index, (page, _)) in others.enumerate() {
        line.push(roman(if index > 0 { ", " } else { "" }));
        line.push(match *page {
            "exitring" => bold(*page),
            page => bold(format!("exitring-{page}")),
        });
        line.push(roman("(1)"));
    }
    roff.text(line);
    roff
}

fn to_roff(text: &str) -> Roff {
    let mut roff = Roff::new();
    let (mut verbatim, mut new_paragraph) = (false, false);
    for line in text.lines() {
        let code = line.strip_prefix("    ");
        if verbatim && code.is_none() {
            roff.control("fi", []).control("RE", []);
        }
        let separate = std::mem::replace(&mut new_paragraph, line.is_empty());
        if let Some(code) = code {
            if !verbatim {
                roff.control("PP", []).control("RS", []).control("nf", []);
            }
            roff.text([roman(code)]);
        } else if let Some(heading) = line.strip_prefix("# ") {
            roff.control("SH", [heading]);
        } else if let Some(tag) = line.strip_prefix("= ") {
            roff.control("TP", []).text([bold(tag)]);
        } else if !line.is_empty() {
            if separate {
                roff.control("PP", []);
            }
            roff.text(inline(line));
        }
        verbatim = code.is_some();
    }
    if verbatim {
        roff.control("fi", []).control("RE", []);
    }
    roff
}

/// Every other part between backquotes is bold.
fn inline(line: &str) -> Vec<Inline> {
    let parts = line.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        0 => roman(part),
        _ => bold(part),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_roff() {
        let text = "# EXIT STATUS\nUse `-q`.\n\n= 0\nSuccess.\n\n    a \\ b\n\n.x";
        let expected = ".SH \"EXIT STATUS\"\nUse \\fB\\-q\\fR.\n.TP\n\\fB0\\fR\nSuccess.\n\
            .PP\n.RS\n.nf\na \\\\ b\n.fi\n.RE\n.PP\n\\&.x\n";
        assert_eq!(to_roff(text).to_roff(), expected);
    }
}

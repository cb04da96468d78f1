//! The elements of an HTML page.

use super::exitring;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};

const VOID: &[&str] = &["meta", "link", "br", "img", "input", "hr"];

#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    /// With that of the elements inside.
    pub text: String,
}

impl Element {
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// All elements, in the order of their ends. Panics if the page has a syntax error, or an element
/// that does not end.
pub fn elements(page: &str) -> Vec<Element> {
    let mut emitter = DefaultEmitter::default();
    // As a browser: a script ends at its end tag only.
    emitter.naively_switch_states(true);
    let mut open: Vec<Element> = Vec::new();
    let mut ended = Vec::new();
    for token in Tokenizer::new_with_emitter(page, emitter) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let element = Element {
                    name: text(&tag.name),
                    attributes: tag
                        .attributes
                        .iter()
                        .map(|(name, value)| (text(name), text(value)))
                        .collect(),
                    text: String::new(),
                };
                match VOID.contains(&element.name.as_str()) {
                    true => ended.push(element),
                    false => open.push(element),
                }
            }
            Token::EndTag(tag) => {
                let element = open.pop().expect("an open element");
                assert_eq!(element.name, text(&tag.name));
                ended.push(element);
            }
            Token::String(string) => {
                for element in &mut open {
                    element.text.push_str(&text(&string));
                }
            }
            Token::Comment(_) | Token::Doctype(_) => {}
            Token::Error(error) => panic!("{error:?}"),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    ended
}

/// Runs a list. Returns the exit code and the elements of the page.
pub fn report(dir: &Path, options: &[&str], list: &str) -> (Option<i32>, Vec<Element>) {
    let mut run = exitring(["run", "-q", "--report", "page.html"]);
    let output = run
        .args(options)
        .current_dir(dir)
        .write_stdin(list)
        .output()
        .unwrap();
    let page = fs::read_to_string(dir.join("page.html"))
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), elements(&page))
}

//! Helpers of the integration tests.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

pub fn loadgen(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .output()
        .expect("loadgen starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A temporary directory that is removed at the end of the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("loadgen-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("it can be created");
        Self(directory)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }

    /// Writes a script of the shell. Returns its path.
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.file(name);
        // Another process writes it. A descriptor of this process could be open in a child that
        // another test just forked, and then the script could not be executed ("text file busy").
        let write = r#"printf '#!/bin/sh\n%s' "$1" > "$2" && chmod 755 "$2""#;
        let status = Command::new("sh")
            .args(["-c", write, "sh", text, &path])
            .status()
            .expect("sh starts");
        assert!(status.success());
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn read_json(path: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a measurement that must succeed. Returns what it printed and what it saved.
pub fn measure(scratch: &Scratch, arguments: &[&str]) -> (String, Value) {
    let path = scratch.file("result.json");
    let output = loadgen(&[arguments, &["--json", &path]].concat());
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {stdout}{stderr}");
    let json = read_json(&path);
    for run in json["runs"].as_array().expect("runs") {
        for zero in ["lost", "duplicates", "wrong"] {
            assert_eq!(run[zero], 0, "{zero}: {run}");
        }
        assert_eq!(run["exits"], run["children"], "{run}");
    }
    (stdout, json)
}

/// The contestants that are exitring with another way to start programs. Without a delegated cgroup
/// one of them must be absent, with this reason.
pub fn starters(json: &Value) -> Vec<&'static str> {
    let mut absent = json["absent"].as_array().expect("a list").iter();
    let without = absent.find(|absent| absent["contestant"] == "exitring-cgroup");
    let mut starters = vec!["exitring-std", "exitring-pre-exec"];
    match without {
        Some(absent) => {
            let why = absent["why"].as_str().expect("a reason");
            assert!(why.contains("cannot have cgroups"), "{why}");
            assert_eq!(absent["failed"], false);
        }
        None => starters.push("exitring-cgroup"),
    }
    starters
}

pub fn assert_fits_the_schema(json: &Value) {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/schema.json");
    let validator = jsonschema::validator_for(&read_json(schema)).expect("it is a schema");
    let errors: Vec<_> = validator
        .iter_errors(json)
        .map(|error| error.to_string())
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

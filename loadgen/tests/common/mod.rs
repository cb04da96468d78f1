//! What the tests of the program share.

#![allow(dead_code, reason = "each test file uses some of it")]

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

/// A place in the file system that is gone with the test.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("loadgen-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&place).expect("it can be had");
        Self(place)
    }

    pub fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a plain path").to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn read_json(path: &str) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Runs a measurement that is to succeed; what it printed, and what it saved.
pub fn measure(place: &Place, arguments: &[&str]) -> (String, Value) {
    let path = place.file("result.json");
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

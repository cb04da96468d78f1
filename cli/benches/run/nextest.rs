//! A generated crate of empty tests, for `cargo nextest run`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::contestants::find_program;

/// A crate of empty tests that was built.
pub(crate) struct EmptyTests {
    dir: TempDir,
    pub(crate) binary: PathBuf,
    pub(crate) names: Vec<String>,
}

impl EmptyTests {
    /// Generates and builds a crate with `count` tests. Returns the reason if that is not possible.
    pub(crate) fn build(count: usize) -> Result<Self, String> {
        if find_program("cargo-nextest").is_none() {
            return Err("not installed (cargo install cargo-nextest)".into());
        }
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let tests = (0..count).map(|number| format!("#[test]\nfn empty_{number}() {{}}\n"));
        let files = [
            (
                "Cargo.toml",
                "[package]\nname = \"empty\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n".into(),
            ),
            ("lib.rs", tests.collect::<String>()),
        ];
        for (name, text) in files {
            fs::write(dir.path().join(name), text).map_err(|error| error.to_string())?;
        }
        // It must use the same profile and target directory as the runs.
        let built = Command::new("cargo")
            .args(["nextest", "list", "--offline", "--message-format", "json"])
            .arg("--manifest-path")
            .arg(dir.path().join("Cargo.toml"))
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| error.to_string())?;
        let list: serde_json::Value = serde_json::from_slice(&built.stdout)
            .map_err(|error| format!("cargo nextest list fails: {error}"))?;
        let suite = &list["rust-suites"]["empty"];
        let binary = suite["binary-path"].as_str();
        let names = suite["testcases"].as_object();
        let (Some(binary), Some(names)) = (binary, names) else {
            return Err("the output of cargo nextest list has no test".into());
        };
        Ok(Self {
            dir,
            binary: binary.into(),
            names: names.keys().cloned().collect(),
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

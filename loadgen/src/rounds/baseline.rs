//! Saved builds of the load generator, by name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::types::baseline_name::BaselineName;

/// The program that the contestants of `serve` use. It is in the same directory as the load generator.
const SERVICE: &str = "exitring";
const PROGRAM: &str = "loadgen";

/// Copies this program. Returns the path of the copy.
pub(crate) fn save(name: &BaselineName) -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding this program")?;
    save_in(&directory()?, name, &this)
}

/// The path of a saved build.
pub(super) fn find(name: &BaselineName) -> Result<PathBuf> {
    find_in(&directory()?, name)
}

fn save_in(directory: &Path, name: &BaselineName, this: &Path) -> Result<PathBuf> {
    let directory = directory.join(name.as_str());
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    let service = this.with_file_name(SERVICE);
    if service.is_file() {
        replace(&service, &directory.join(SERVICE))?;
    }
    let program = directory.join(PROGRAM);
    replace(this, &program)?;
    Ok(program)
}

/// Copies a program. A process that runs an older copy keeps it.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    let copy = || fs::copy(from, &new).and_then(|_| fs::rename(&new, to));
    copy().with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

fn find_in(directory: &Path, name: &BaselineName) -> Result<PathBuf> {
    let program = directory.join(name.as_str()).join(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    let known = match names.is_empty() {
        true => "none is saved".to_owned(),
        false => format!("saved are {}", names.join(", ")),
    };
    bail!(
        "no baseline {name} in {} ({known}); save one: loadgen --save-baseline {name}",
        directory.display()
    );
}

/// The directory of all saved builds. All work trees of a user have the same.
fn directory() -> Result<PathBuf> {
    let absolute = |name| {
        let path = std::env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    let cache = cache.context("no directory for baselines: set HOME or XDG_CACHE_HOME")?;
    Ok(cache.join("exitring-loadgen").join("baselines"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_build_is_found_by_name_until_it_is_replaced() {
        let scratch = tempfile::tempdir().expect("a directory");
        let this = scratch.path().join("this");
        let directory = scratch.path().join("baselines");
        let name: BaselineName = "main".parse().expect("a name");

        let error = find_in(&directory, &name).expect_err("nothing is saved");
        assert!(error.to_string().contains("none is saved"), "{error}");

        for content in ["first", "second"] {
            fs::write(&this, content).expect("written");
            let saved = save_in(&directory, &name, &this).expect("saved");
            assert_eq!(find_in(&directory, &name).expect("found"), saved);
            assert_eq!(fs::read_to_string(saved).expect("read"), content);
        }
        let other: BaselineName = "other".parse().expect("a name");
        let error = find_in(&directory, &other).expect_err("it is not saved");
        assert!(error.to_string().contains("saved are main"), "{error}");

        // The service is copied with it.
        assert!(!directory.join("main").join(SERVICE).exists());
        fs::write(scratch.path().join(SERVICE), "service").expect("written");
        save_in(&directory, &name, &this).expect("saved");
        assert!(directory.join("main").join(SERVICE).exists());
    }
}

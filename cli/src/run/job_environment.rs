//! The environment and the directory of all jobs, which they inherit from this process.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::schedule::environment;
use crate::failure::Failure;
use crate::locale;

/// Sets the variables of `--env`. The caller must not have started a thread yet.
pub(super) fn set_variables(variables: &[OsString]) -> Result<(), Failure> {
    // The messages of this process keep their encoding.
    locale::is_utf8();
    for variable in variables {
        let bytes = variable.as_bytes();
        let equals = bytes.iter().position(|&byte| byte == b'=');
        let name = OsStr::from_bytes(&bytes[..equals.unwrap_or(bytes.len())]);
        let shown = name.display();
        if name.is_empty() {
            return Err(Failure::usage(
                "--env needs a name, as in NAME or NAME=VALUE",
            ));
        }
        if environment::OF_EACH_JOB.iter().any(|own| name == *own) {
            return Err(Failure::usage(format!(
                "--env {shown}: exitring sets this variable for each job"
            )));
        }
        match equals {
            Some(equals) => {
                let value = OsStr::from_bytes(&bytes[equals + 1..]);
                // SAFETY: no other thread exists that could read or change the environment.
                unsafe { env::set_var(name, value) };
            }
            None if env::var_os(name).is_none() => {
                let cause = format!("--env {shown}: the variable is not set");
                let remedy = format!("export it, or give a value: --env {shown}=VALUE");
                return Err(Failure::usage(cause).remedy(remedy));
            }
            // Jobs inherit it.
            None => {}
        }
    }
    Ok(())
}

/// Changes to the directory of `--cwd`. The caller must not have started a thread yet.
pub(super) fn change_directory(dir: &Path) -> Result<(), Failure> {
    let changed = env::set_current_dir(dir).and_then(|()| env::current_dir());
    let absolute = changed
        .map_err(|error| Failure::usage(format!("cannot change to {}: {error}", dir.display())))?;
    // As cd does in a shell.
    // SAFETY: no other thread exists that could read or change the environment.
    unsafe { env::set_var("PWD", absolute) };
    Ok(())
}

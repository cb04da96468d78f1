//! The check that a file to be written is nothing else that the run reads or writes.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat};

use crate::failure::Failure;

/// Links that are followed, as by the kernel.
const LINKS_MAX: u32 = 40;

/// A file of the run, by the name that the user knows it by.
#[derive(Clone)]
pub(crate) struct NamedFile<'a> {
    pub(crate) name: &'a str,
    pub(crate) path: &'a Path,
}

/// What two names of one file have in common.
#[derive(Debug, PartialEq, Eq)]
enum Identity {
    Existing(u64, u64),
    /// It will be created here.
    Absent(PathBuf),
}

/// Refuses the `written` files if one of them is another one, one of the `others`, a standard
/// stream, or a file of a job in `log_dir`. Devices, such as /dev/null, may be used twice.
pub(crate) fn check(
    written: &[NamedFile<'_>],
    others: &[NamedFile<'_>],
    log_dir: Option<&Path>,
) -> Result<(), Failure> {
    for (index, file) in written.iter().enumerate() {
        let Some(identity) = identity(file.path) else {
            continue;
        };
        let mut rest = written[..index].iter().chain(others);
        let clash = rest
            .find(|other| self::identity(other.path).is_some_and(|other| other == identity))
            .map(|other| other.name)
            .or_else(|| clash_with_stream(&identity))
            .or_else(|| {
                log_dir
                    .filter(|dir| is_log(file.path, dir))
                    .map(|_| "--log")
            });
        if let Some(other) = clash {
            return Err(same_file(file, other));
        }
    }
    Ok(())
}

/// Refuses a file that is another one of these.
pub(crate) fn check_others(file: &NamedFile<'_>, others: &[NamedFile<'_>]) -> Result<(), Failure> {
    let Some(identity) = identity(file.path) else {
        return Ok(());
    };
    let is_same = |other: &&NamedFile<'_>| {
        other.name != file.name && self::identity(other.path).is_some_and(|other| other == identity)
    };
    match others.iter().find(is_same) {
        Some(other) => Err(same_file(file, other.name)),
        None => Ok(()),
    }
}

/// Refuses a file that is one of the logs of jobs in `log_dir`.
pub(crate) fn check_no_log(file: &NamedFile<'_>, log_dir: &Path) -> Result<(), Failure> {
    match is_log(file.path, log_dir) {
        true => Err(same_file(file, "--log")),
        false => Ok(()),
    }
}

fn same_file(NamedFile { name, path }: &NamedFile<'_>, other: &str) -> Failure {
    let cause = format!("{name} and {other} name the same file, {}", path.display());
    Failure::usage(cause).remedy(format!("give {name} a file of its own"))
}

/// `None` for what is not a regular file.
fn identity(path: &Path) -> Option<Identity> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                return Some(Identity::Existing(metadata.dev(), metadata.ino()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => return None,
        }
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        match fs::read_link(&path) {
            // A link to a file that will be created.
            Ok(target) => path = dir.join(target),
            Err(_) => {
                let dir = dir.canonicalize().ok()?;
                return Some(Identity::Absent(dir.join(path.file_name()?)));
            }
        }
    }
    None
}

fn clash_with_stream(identity: &Identity) -> Option<&'static str> {
    let streams = [
        ("standard input", rustix::stdio::stdin()),
        ("standard output", rustix::stdio::stdout()),
        ("standard error", rustix::stdio::stderr()),
    ];
    let is_same = |stream: &dyn AsFd| {
        fstat(stream.as_fd()).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && *identity == Identity::Existing(stat.st_dev, stat.st_ino)
        })
    };
    let stream = streams.iter().find(|(_, stream)| is_same(stream));
    stream.map(|(name, _)| *name)
}

/// Whether a job will write to the file: `DIR/NUMBER.out` or `DIR/NUMBER.err`.
fn is_log(path: &Path, dir: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let of_job = name
        .and_then(|name| name.strip_suffix(".out").or(name.strip_suffix(".err")))
        .is_some_and(|number| number.parse::<u64>().is_ok());
    let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new(".")).canonicalize();
    of_job && parent.is_ok_and(|parent| dir.canonicalize().is_ok_and(|dir| dir == parent))
}

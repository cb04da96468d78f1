//! The file of the page, which is replaced as a whole at the end of the run.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::Failure;

pub(crate) struct PageFile {
    /// Absolute, as the directory of this process may change.
    path: PathBuf,
    dir: PathBuf,
    permissions: Permissions,
    /// The name that the user gave.
    name: String,
}

impl PageFile {
    /// Checks that the file can be written, and changes nothing.
    pub(crate) fn check(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let unusable =
            |error: io::Error| Failure::usage(format!("cannot write the report {name}: {error}"));
        let (path, permissions) = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                // The file could be replaced even if it is write-protected. That is not meant.
                OpenOptions::new()
                    .write(true)
                    .open(path)
                    .map_err(unusable)?;
                // A link is followed.
                let path = path.canonicalize().map_err(unusable)?;
                (path, metadata.permissions())
            }
            Ok(metadata) => {
                let kind = if metadata.is_dir() {
                    "a directory"
                } else {
                    "not a regular file"
                };
                let cause = format!("cannot write the report {name}: it is {kind}");
                return Err(Failure::usage(cause)
                    .remedy("give the name of a file, as in --report run.html"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let path = path::absolute(path).map_err(unusable)?;
                // Less the umask.
                (path, Permissions::from_mode(0o666))
            }
            Err(error) => return Err(unusable(error)),
        };
        let (Some(dir), Some(_)) = (path.parent(), path.file_name()) else {
            return Err(unusable(io::ErrorKind::InvalidFilename.into()));
        };
        let file = Self {
            dir: dir.into(),
            path,
            permissions,
            name: name.clone(),
        };
        // Removed again when it is dropped.
        file.temporary().map_err(unusable)?;
        Ok(file)
    }

    fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".exitring-report-")
            .permissions(self.permissions.clone())
            .tempfile_in(&self.dir)
    }

    /// Writes the page. After an error an earlier page is unchanged.
    pub(crate) fn write(&self, page: &str) -> Result<(), Failure> {
        let write = || {
            let mut file = self.temporary()?;
            file.write_all(page.as_bytes())?;
            // Some file systems report a full disk only now.
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)
        };
        match write() {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::writing(
                &format!("the report {}", self.name),
                &error,
            )),
        }
    }
}

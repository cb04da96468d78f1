//! How to log in at the server, and which certificates to trust.
//!
//! A worker connects again after it has changed to the directory of the run and set the variables of
//! the run. So the files and the variables of this process are read once, before that.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use async_nats::ConnectOptions;

use super::address::{Address, Login};
use super::error::QueueError;
use super::options::LoginOptions;

/// What a connection needs beside the address.
pub(super) struct Access {
    /// The content of the credentials file, and its name.
    creds: Option<(PathBuf, String)>,
    login: Option<Login>,
    /// An absolute path.
    ca: Option<PathBuf>,
}

impl Access {
    /// An option beats the address, and the address the environment.
    pub(super) fn read(address: &Address, options: &LoginOptions) -> Result<Self, QueueError> {
        let (creds, login) = match (&options.creds, &address.login) {
            (Some(path), _) => (Some(path.clone()), None),
            (None, Some(login)) => (None, Some(login.clone())),
            (None, None) => match variable("NATS_CREDS") {
                Some(path) => (Some(path.into()), None),
                None => (None, user_of_environment()?),
            },
        };
        let creds = match creds {
            None => None,
            Some(path) => match fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) => return Err(QueueError::Credentials { path, error }),
            },
        };
        let ca = options.ca.clone();
        let ca = match ca.or_else(|| variable("NATS_CA").map(PathBuf::from)) {
            Some(path) => Some(certificates(path)?),
            // The client would read this variable when it connects.
            None => match variable("SSL_CERT_FILE").map(fs::canonicalize) {
                Some(Ok(path)) if address.tls => Some(path),
                _ => None,
            },
        };
        Ok(Self { creds, login, ca })
    }

    pub(super) fn connect_options(&self) -> Result<ConnectOptions, QueueError> {
        let mut options = ConnectOptions::new();
        options = match (&self.creds, &self.login) {
            (Some((path, text)), _) => {
                options
                    .credentials(text)
                    .map_err(|error| QueueError::Credentials {
                        path: path.clone(),
                        error,
                    })?
            }
            (None, Some(Login::Token(token))) => options.token(token.clone()),
            (None, Some(Login::User { name, password })) => {
                options.user_and_password(name.clone(), password.clone())
            }
            (None, None) => options,
        };
        if let Some(ca) = &self.ca {
            options = options.add_root_certificates(ca.clone());
        }
        Ok(options)
    }
}

/// A variable that is set and not empty.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn user_of_environment() -> Result<Option<Login>, QueueError> {
    let text = |name| match variable(name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(QueueError::Variable(name)),
    };
    let Some(name) = text("NATS_USER")? else {
        return Ok(None);
    };
    let password = text("NATS_PASSWORD")?.unwrap_or_default();
    Ok(Some(Login::User { name, password }))
}

/// Checks a file of certificates: the client reports neither a file that does not exist nor one
/// without certificates. Returns its absolute path.
fn certificates(path: PathBuf) -> Result<PathBuf, QueueError> {
    let text = fs::read_to_string(&path);
    let text = text.and_then(|text| match text.contains("-----BEGIN CERTIFICATE-----") {
        true => fs::canonicalize(&path),
        false => Err(io::Error::other("it has no certificate in PEM format")),
    });
    text.map_err(|error| QueueError::Certificates { path, error })
}

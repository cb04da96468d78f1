//! How to log in at the server, and which certificates to trust.
//!
//! A worker connects again after it has changed to the directory of the run and set the variables of
//! the run. So the files and the variables of this process are read once, before that.

use std::env;
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
    pub(super) fn read(address: &Address, options: &LoginOptions) -> Result<Self, QueueError> {
        let of_environment = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let path = |given: &Option<PathBuf>, name| {
            let given = given.clone();
            given.or_else(|| of_environment(name).map(PathBuf::from))
        };
        let creds = match path(&options.creds, "NATS_CREDS") {
            None => None,
            Some(path) => match fs::read_to_string(&path) {
                Ok(text) => Some((path, text)),
                Err(error) => return Err(QueueError::Credentials { path, error }),
            },
        };
        let user = of_environment("NATS_USER");
        let user = user.map(|name| Login::User {
            name,
            password: of_environment("NATS_PASSWORD").unwrap_or_default(),
        });
        let ca = match path(&options.ca, "NATS_CA") {
            Some(path) => Some(certificates(path)?),
            // The client would read this variable when it connects.
            None => match of_environment("SSL_CERT_FILE").map(fs::canonicalize) {
                Some(Ok(path)) if address.tls => Some(path),
                _ => None,
            },
        };
        Ok(Self {
            creds,
            login: address.login.clone().or(user),
            ca,
        })
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

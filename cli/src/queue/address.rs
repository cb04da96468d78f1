//! The address of a queue: `nats://HOST/RUN`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::error::QueueError;

/// The longest name of a run.
const RUN_MAX: usize = 64;

/// The address as it was given. It may contain a password, so it is never printed, also not by the
/// parser of the command line: it accepts any text, and [`Address::parse`] checks it.
#[derive(Clone)]
pub(crate) struct QueueUrl(String);

impl FromStr for QueueUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for QueueUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueUrl")
    }
}

/// Who logs in, by the address.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    Token(String),
    User { name: String, password: String },
}

/// Servers, a login and the name of a run.
pub(crate) struct Address {
    /// With scheme and port, without a login.
    pub(crate) servers: Vec<String>,
    pub(crate) tls: bool,
    pub(crate) login: Option<Login>,
    pub(crate) run: String,
}

impl Address {
    pub(crate) fn parse(QueueUrl(text): &QueueUrl) -> Result<Self, QueueError> {
        let invalid = |why: &str| QueueError::Address(why.into());
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| invalid("it does not begin with nats:// or tls://"))?;
        let tls = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(invalid("its scheme is neither nats nor tls")),
        };
        let (authority, run) = rest
            .split_once('/')
            .ok_or_else(|| invalid("the name of the run is missing after the host"))?;
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(parse_login(login)?), hosts),
            None => (None, authority),
        };
        let servers = hosts.split(',').map(|host| {
            let server = format!("{scheme}://{host}");
            let port = host
                .rsplit_once(':')
                .filter(|(_, port)| !port.ends_with(']'));
            let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
            let parsed = server.parse::<async_nats::ServerAddr>();
            match (host.is_empty(), port, parsed) {
                (true, ..) => Err(invalid("a host is missing")),
                (_, Some((_, port)), _) if !is_port(port) => {
                    Err(invalid("a port is not a number from 1 to 65535"))
                }
                (.., Err(_)) => Err(invalid("the name of a host is invalid")),
                (_, None, Ok(_)) => Ok(format!("{server}:4222")),
                (_, Some(_), Ok(_)) => Ok(server),
            }
        });
        let servers = servers.collect::<Result<_, _>>()?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if run.is_empty() || run.len() > RUN_MAX || !run.bytes().all(is_name) {
            return Err(invalid(
                "the name of the run is 1 to 64 letters, digits, - and _, as in nats://HOST/nightly-7",
            ));
        }
        Ok(Self {
            servers,
            tls,
            login,
            run: run.into(),
        })
    }

    /// The servers, for messages.
    pub(crate) fn shown(&self) -> String {
        self.servers.join(",")
    }
}

fn parse_login(text: &str) -> Result<Login, QueueError> {
    let decode = |part: &str| {
        let decoded = percent_decode_str(part).decode_utf8();
        let decoded = decoded.map(|part| part.into_owned());
        decoded.map_err(|_| QueueError::Address("the login is not UTF-8".into()))
    };
    Ok(match text.split_once(':') {
        Some((name, password)) => Login::User {
            name: decode(name)?,
            password: decode(password)?,
        },
        None => Login::Token(decode(text)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, QueueError> {
        let url: Result<QueueUrl, Infallible> = text.parse();
        let Ok(url) = url;
        Address::parse(&url)
    }

    #[test]
    fn addresses_have_servers_a_login_and_a_run() {
        let address = parse("nats://host/nightly-7").expect("it is valid");
        assert_eq!(address.servers, ["nats://host:4222"]);
        assert_eq!(address.run, "nightly-7");
        assert!(address.login.is_none() && !address.tls);
        let address = parse("tls://me:p%40ss:w@a:1,[::1]:2/r").expect("it is valid");
        assert_eq!(address.servers, ["tls://a:1", "tls://[::1]:2"]);
        let login = Login::User {
            name: "me".into(),
            password: "p@ss:w".into(),
        };
        assert!(address.login == Some(login) && address.tls);
        let address = parse("nats://s3cret@h/r").expect("it is valid");
        assert!(address.login == Some(Login::Token("s3cret".into())));
    }

    #[test]
    fn invalid_addresses_are_refused_and_no_password_is_printed() {
        for text in [
            "",
            "host/run",
            "http://u:s3cret@host/run",
            "nats://u:s3cret@host",
            "nats://u:s3cret@/run",
            "nats://u:s3cret@host/",
            "nats://u:s3cret@host/a.b",
            "nats://u:s3cret@host/a/b",
            "nats://u:s3cret@host:0/r",
            "nats://u:s3cret@host:x/r",
            "nats://u:s3cret@a,,b/r",
            "nats://u:s3cret@host/a b",
            "nats://u:s3cret@ho st/r",
        ] {
            let Err(error) = parse(text) else {
                panic!("{text} is accepted")
            };
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        let url: QueueUrl = "nats://u:s3cret@host/a".parse().expect("any text");
        assert!(!format!("{url:?}").contains("s3cret"));
    }
}

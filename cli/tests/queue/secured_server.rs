//! Servers that ask for credentials, or have a certificate.

use std::path::Path;
use std::process::Command;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::server::Server;

/// A server with TLS, whose certificate is in `ca.pem` in the directory.
pub fn with_tls(dir: &Path) -> Option<Server> {
    let path = |name: &str| dir.join(name).display().to_string();
    let (cert, key) = (path("ca.pem"), path("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl
        .args("req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost".split(' '))
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"])
        .args(["-keyout", &key, "-out", &cert]);
    if !openssl.output().is_ok_and(|output| output.status.success()) {
        println!("not tested: there is no openssl");
        return None;
    }
    Server::with(&format!(
        "jetstream {{ store_dir: STORE }}\ntls {{ cert_file: {cert:?}, key_file: {key:?} }}"
    ))
}

/// A server that knows one account, with the text of a credentials file of a user of it.
pub fn with_credentials() -> Option<(Server, String)> {
    let (operator, system, batch) = (
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
    );
    let config = format!(
        "jetstream {{ store_dir: STORE }}
operator: {}
system_account: {}
resolver: MEMORY
resolver_preload: {{ {}: {}, {}: {} }}",
        signed(&operator, &operator, json!({ "type": "operator" })),
        system.public_key(),
        system.public_key(),
        signed(&operator, &system, account(0)),
        batch.public_key(),
        signed(&operator, &batch, account(-1)),
    );
    let creds = creds(&batch, &KeyPair::new_user());
    Server::with(&config).map(|server| (server, creds))
}

/// A description of `subject` that `issuer` has signed: a JSON web token as nats-server reads it.
fn signed(issuer: &KeyPair, subject: &KeyPair, mut description: Value) -> String {
    description["version"] = 2.into();
    let claims = json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "iss": issuer.public_key(), "name": "n",
        "sub": subject.public_key(), "nats": description,
    });
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let [header, claims] = [header, claims].map(|part| encode(part.to_string().as_bytes()));
    let text = format!("{header}.{claims}");
    let signature = issuer.sign(text.as_bytes()).expect("it has a private key");
    format!("{text}.{}", encode(&signature))
}

fn account(jetstream: i32) -> Value {
    json!({
        "type": "account",
        "limits": {
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1, "mem_storage": jetstream, "disk_storage": jetstream,
            "streams": -1, "consumer": -1,
        },
    })
}

/// The file that `nsc generate creds` writes.
pub fn creds(account: &KeyPair, user: &KeyPair) -> String {
    let description = json!({
        "type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
    });
    let token = signed(account, user, description);
    let seed = user.seed().expect("it has a private key");
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

//! Credentials files: a user that an account describes, which an operator describes.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::common::{code, stderr};
use crate::server::Server;

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
fn creds(account: &KeyPair, user: &KeyPair) -> String {
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

#[test]
fn a_credentials_file_logs_in() {
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
    let Some(server) = Server::with(&config) else {
        return;
    };
    let list = server.file("list", "true\n");
    let known = server.file("known.creds", &creds(&batch, &KeyPair::new_user()));
    let other_account = KeyPair::new_account();
    let unknown = server.file(
        "unknown.creds",
        &creds(&other_account, &KeyPair::new_user()),
    );
    let mut submit = server.command("submit", "r", &["--creds", &known, &list]);
    assert_eq!(code(&mut submit), Some(0), "{}", stderr(&mut submit));
    let mut run = server.command("run", "r", &[]);
    run.env("NATS_CREDS", &known);
    assert_eq!(code(&mut run), Some(0), "{}", stderr(&mut run));
    for options in [&["--creds", &unknown][..], &[]] {
        let mut refused = server.command("results", "r", options);
        assert_eq!(code(&mut refused), Some(2));
        let text = stderr(&mut refused);
        assert!(
            text.contains("refuses the login") && text.contains("--creds"),
            "{text}"
        );
    }
}

//! Credentials files: a user that an account describes, which an operator describes.

use nkeys::KeyPair;

use crate::common::{code, stderr};
use crate::secured_server::{creds, with_credentials};

#[test]
fn a_credentials_file_logs_in() {
    let Some((server, known)) = with_credentials() else {
        return;
    };
    let list = server.file("list", "true\n");
    let known = server.file("known.creds", &known);
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

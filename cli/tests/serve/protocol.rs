//! Valid and invalid lines, and their answers.

use serde_json::json;

use crate::service::{RawClient, Service};

#[test]
fn hello_must_come_first_with_a_supported_version() {
    let service = Service::start(&[]);
    let mut raw = RawClient::connect(&service);
    let answer = raw.ask(r#"{"id": 1, "op": "stats"}"#);
    assert_eq!(answer["id"], 1);
    assert_eq!(answer["error"]["code"], "hello_first");
    let answer = raw.ask(r#"{"id": "a", "op": "hello", "version": 2}"#);
    assert_eq!(answer["id"], "a");
    assert_eq!(answer["error"]["code"], "version");
    let answer = raw.ask(r#"{"op": "hello", "version": 1, "client": "me"}"#);
    assert_eq!(answer["ok"]["hello"]["limits"]["line_bytes"], 65536);
    let answer = raw.ask(r#"{"id": 3, "op": "stats"}"#);
    assert!(answer["ok"]["stats"]["watched"].is_u64(), "{answer}");
}

#[test]
fn a_malformed_line_gets_an_error_with_its_id_and_the_connection_continues() {
    let service = Service::start(&[]);
    let mut raw = RawClient::connect(&service);
    raw.hello();
    let deep = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
    let cases: &[(&[u8], Option<u64>, &str)] = &[
        (b"nonsense", None, "bad_json"),
        (b"{\"id\": 4, \"op\": ", Some(4), "bad_json"),
        (b"\xff\xfe{}", None, "bad_json"),
        (b"{\"id\": 5, \"tag\": \"\xff\"}", Some(5), "bad_json"),
        (b"[1, 2]", None, "bad_request"),
        (b"{\"id\": 6, \"op\": \"dance\"}", Some(6), "bad_request"),
        (
            b"{\"id\": 7, \"op\": \"watch\", \"pid\": \"x\"}",
            Some(7),
            "bad_request",
        ),
        (
            b"{\"id\": 8, \"op\": \"spawn\", \"argv\": []}",
            Some(8),
            "out_of_range",
        ),
        (
            b"{\"id\": 9, \"op\": \"spawn\", \"argv\": [\"a\\u0000b\"]}",
            Some(9),
            "cannot_start",
        ),
        (
            b"{\"id\": 10, \"op\": \"watch\", \"pid\": -1}",
            Some(10),
            "no_such_process",
        ),
        (b"{\"id\": 11, \"op\": \"watch\"}", Some(11), "not_a_pidfd"),
        (
            b"{\"id\": 12, \"op\": \"unwatch\", \"watch\": 77}",
            Some(12),
            "no_such_watch",
        ),
        (
            b"{\"id\": 13, \"op\": \"signal\", \"watch\": 77, \"signal\": 9}",
            Some(13),
            "no_such_watch",
        ),
        (deep.as_bytes(), None, "too_deep"),
    ];
    for (line, id, code) in cases {
        let answer = raw.ask(line);
        let line = String::from_utf8_lossy(line);
        assert_eq!(answer["id"], json!(id), "{line}: {answer}");
        assert_eq!(answer["error"]["code"], *code, "{line}: {answer}");
        assert!(
            answer["error"]["message"]
                .as_str()
                .is_some_and(|message| message.len() > 10),
            "{line}: {answer}"
        );
    }
    // Blank lines are ignored.
    raw.send_line("");
    raw.send_line("  \r");
    assert_eq!(raw.ask(r#"{"id": 99, "op": "stats"}"#)["id"], 99);
}

#[test]
fn an_oversized_line_ends_only_its_own_connection() {
    let service = Service::start(&["--line", "1000"]);
    let (mut long, mut other) = (RawClient::connect(&service), RawClient::connect(&service));
    long.hello();
    other.hello();
    let fits = format!(r#"{{"id": 1, "op": "stats", "x": "{}"}}"#, "x".repeat(900));
    assert_eq!(long.ask(fits)["error"]["code"], "bad_request");
    let answer = long.ask("x".repeat(2000));
    assert_eq!(answer["error"]["code"], "line_too_long");
    assert_eq!(long.receive(), None);
    assert!(other.ask(r#"{"op": "stats"}"#)["ok"].is_object());
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let service = Service::start(&[]);
    let mut raw = RawClient::connect(&service);
    raw.hello();
    for id in 0..200 {
        raw.send_line(match id % 3 {
            0 => format!(r#"{{"id": {id}, "op": "spawn", "argv": ["true"]}}"#),
            1 => format!(r#"{{"id": {id}, "op": "list"}}"#),
            _ => format!(r#"{{"id": {id}, "op": "#),
        });
    }
    for id in 0..200 {
        let answer = raw.receive().expect("it answers");
        assert_eq!(answer["id"], id, "{answer}");
        assert_eq!(answer["ok"].is_object(), id % 3 < 2, "{answer}");
    }
}

#[test]
fn a_record_comes_after_the_reply_to_its_request() {
    let service = Service::start(&[]);
    let mut raw = RawClient::connect(&service);
    raw.hello();
    raw.ask(r#"{"op": "subscribe"}"#);
    let mut answered = std::collections::BTreeSet::new();
    let mut ended = 0;
    for _ in 0..300 {
        raw.send_line(r#"{"op": "spawn", "argv": ["true"]}"#);
    }
    while ended < 300 {
        let line = raw.receive().expect("it answers");
        if let Some(watch) = line["ok"]["watched"]["watch"].as_u64() {
            answered.insert(watch);
        } else if let Some(watch) = line["exit"]["watch"].as_u64() {
            assert!(answered.contains(&watch), "{line} came before the reply");
            ended += 1;
        } else {
            assert_eq!(line["caught_up"], 0, "{line}");
        }
    }
}

#[test]
fn the_published_schema_matches_this_version() {
    let published = include_str!("../../../docs/protocol.schema.json");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_exitring"))
        .arg("protocol-schema")
        .output()
        .expect("it starts");
    let now = String::from_utf8(output.stdout).expect("it is UTF-8");
    assert_eq!(
        published, now,
        "run: exitring protocol-schema > docs/protocol.schema.json"
    );
}

#[test]
fn all_lines_of_the_service_match_the_published_schema() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/protocol.schema.json")).expect("JSON");
    let mut of_service = schema.clone();
    of_service["properties"] = json!({});
    of_service["required"] = json!([]);
    of_service["$ref"] = schema["properties"]["service"]["$ref"].clone();
    let validator = jsonschema::validator_for(&of_service).expect("it is a valid schema");
    let service = Service::start(&[]);
    let mut raw = RawClient::connect(&service);
    raw.hello();
    let lines = [
        r#"{"id": 1, "op": "subscribe"}"#,
        r#"{"id": 2, "op": "list"}"#,
        r#"{"id": 3, "op": "stats"}"#,
        r#"{"id": "x", "op": "metrics"}"#,
        r#"{"id": 5, "op": "nonsense"}"#,
        r#"{"op": "ack", "upto": 3}"#,
        r#"{"id": 6, "op": "spawn", "argv": ["true"], "tag": "t"}"#,
    ];
    for line in lines {
        raw.send_line(line);
    }
    let mut heard = Vec::new();
    while heard.len() < lines.len() + 2 {
        let line = raw.receive().expect("it answers");
        assert!(validator.is_valid(&line), "{line}");
        heard.push(line);
    }
    let caught_up = heard.iter().position(|line| line["caught_up"] == 0);
    // After the answer to the subscription, and before new records.
    assert!(caught_up.is_some_and(|at| at > 0), "{heard:?}");
    let exit = heard.pop().expect("lines were received");
    assert!(
        exit["exit"].is_object() && validator.is_valid(&exit),
        "{exit}"
    );
    assert!(!validator.is_valid(&json!({"id": 1, "what": {}})));
}

//! Lines, good and bad, and their answers.

use serde_json::json;

use crate::service::{Raw, Service};

#[test]
fn hello_comes_first_and_in_the_right_version() {
    let service = Service::start(&[]);
    let mut raw = Raw::connect(&service);
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
fn a_malformed_line_is_answered_with_its_id_and_the_connection_goes_on() {
    let service = Service::start(&[]);
    let mut raw = Raw::connect(&service);
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
    // Blank lines are none.
    raw.say("");
    raw.say("  \r");
    assert_eq!(raw.ask(r#"{"id": 99, "op": "stats"}"#)["id"], 99);
}

#[test]
fn a_line_that_is_too_long_ends_its_connection_and_no_other() {
    let service = Service::start(&["--line", "1000"]);
    let (mut long, mut other) = (Raw::connect(&service), Raw::connect(&service));
    long.hello();
    other.hello();
    let fits = format!(r#"{{"id": 1, "op": "stats", "x": "{}"}}"#, "x".repeat(900));
    assert_eq!(long.ask(fits)["error"]["code"], "bad_request");
    let answer = long.ask("x".repeat(2000));
    assert_eq!(answer["error"]["code"], "line_too_long");
    assert_eq!(long.hear(), None);
    assert!(other.ask(r#"{"op": "stats"}"#)["ok"].is_object());
}

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let service = Service::start(&[]);
    let mut raw = Raw::connect(&service);
    raw.hello();
    for id in 0..200 {
        raw.say(match id % 3 {
            0 => format!(r#"{{"id": {id}, "op": "spawn", "argv": ["true"]}}"#),
            1 => format!(r#"{{"id": {id}, "op": "list"}}"#),
            _ => format!(r#"{{"id": {id}, "op": "#),
        });
    }
    for id in 0..200 {
        let answer = raw.hear().expect("it answers");
        assert_eq!(answer["id"], id, "{answer}");
        assert_eq!(answer["ok"].is_object(), id % 3 < 2, "{answer}");
    }
}

#[test]
fn the_record_of_what_was_asked_for_comes_after_the_answer() {
    let service = Service::start(&[]);
    let mut raw = Raw::connect(&service);
    raw.hello();
    raw.ask(r#"{"op": "subscribe"}"#);
    let mut answered = std::collections::BTreeSet::new();
    let mut ended = 0;
    for _ in 0..300 {
        raw.say(r#"{"op": "spawn", "argv": ["true"]}"#);
    }
    while ended < 300 {
        let line = raw.hear().expect("it answers");
        if let Some(watch) = line["ok"]["watched"]["watch"].as_u64() {
            answered.insert(watch);
        } else if let Some(watch) = line["exit"]["watch"].as_u64() {
            assert!(answered.contains(&watch), "{line} came before the answer");
            ended += 1;
        } else {
            assert_eq!(line["caught_up"], 0, "{line}");
        }
    }
}

#[test]
fn the_published_schema_is_that_of_this_version() {
    let published = include_str!("../../../docs/protocol.schema.json");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_exitring"))
        .arg("protocol-schema")
        .output()
        .expect("it starts");
    let now = String::from_utf8(output.stdout).expect("it is text");
    assert_eq!(
        published, now,
        "run: exitring protocol-schema > docs/protocol.schema.json"
    );
}

#[test]
fn what_is_said_is_of_the_published_schema() {
    let schema: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/protocol.schema.json")).expect("JSON");
    let mut of_service = schema.clone();
    of_service["properties"] = json!({});
    of_service["required"] = json!([]);
    of_service["$ref"] = schema["properties"]["service"]["$ref"].clone();
    let validator = jsonschema::validator_for(&of_service).expect("it is a schema");
    let service = Service::start(&[]);
    let mut raw = Raw::connect(&service);
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
        raw.say(line);
    }
    let mut heard = Vec::new();
    while heard.len() < lines.len() + 2 {
        let line = raw.hear().expect("it answers");
        assert!(validator.is_valid(&line), "{line}");
        heard.push(line);
    }
    let caught_up = heard.iter().position(|line| line["caught_up"] == 0);
    // After the answer to the subscription, and before what is new.
    assert!(caught_up.is_some_and(|at| at > 0), "{heard:?}");
    let exit = heard.pop().expect("there are some");
    assert!(
        exit["exit"].is_object() && validator.is_valid(&exit),
        "{exit}"
    );
    assert!(!validator.is_valid(&json!({"id": 1, "what": {}})));
}

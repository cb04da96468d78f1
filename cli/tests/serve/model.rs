//! Random sessions, checked against a model of the answers.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::service::{RawClient, Service};
use crate::zombie::Zombie;

/// A step of a client.
#[derive(Clone, Debug)]
enum Act {
    Hello(u32),
    Nonsense(Vec<u8>),
    Watch,
    WatchNoProcess,
    WatchZombie,
    Unwatch(usize),
    Signal(usize),
    List,
    Ack(u64),
    Stats,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let nonsense = proptest::collection::vec(
        any::<u8>().prop_filter("one line", |byte| *byte != b'\n'),
        1..40,
    );
    let act = prop_oneof![
        2 => prop_oneof![4 => Just(1), 1 => any::<u32>()].prop_map(Act::Hello),
        2 => nonsense.prop_map(Act::Nonsense),
        4 => Just(Act::Watch),
        1 => Just(Act::WatchNoProcess),
        2 => Just(Act::WatchZombie),
        3 => (0_usize..8).prop_map(Act::Unwatch),
        1 => (0_usize..8).prop_map(Act::Signal),
        2 => Just(Act::List),
        1 => any::<u64>().prop_map(Act::Ack),
        1 => Just(Act::Stats),
    ];
    proptest::collection::vec(act, 1..60)
}

/// The expected state of a session.
#[derive(Default)]
struct Model {
    has_said_hello: bool,
    /// Live watches of this process, which does not end.
    live: BTreeSet<u64>,
    /// All watches of this process that there were.
    all: Vec<u64>,
}

fn line(act: &Act, model: &Model, zombie: &Zombie, id: usize) -> Vec<u8> {
    let nth = |nth: &usize| model.all.get(*nth).copied().unwrap_or(1 << 40);
    let line = match act {
        Act::Nonsense(bytes) => return bytes.clone(),
        Act::Hello(version) => {
            json!({"id": id, "op": "hello", "version": version, "client": "model"})
        }
        Act::Watch => json!({"id": id, "op": "watch", "pid": std::process::id()}),
        Act::WatchNoProcess => json!({"id": id, "op": "watch", "pid": 0}),
        Act::WatchZombie => json!({"id": id, "op": "watch", "pid": zombie.pid()}),
        Act::Unwatch(watch) => json!({"id": id, "op": "unwatch", "watch": nth(watch)}),
        // Signal 0 only checks for permission.
        Act::Signal(watch) => json!({"id": id, "op": "signal", "watch": nth(watch), "signal": 0}),
        Act::List => json!({"id": id, "op": "list"}),
        Act::Ack(upto) => json!({"id": id, "op": "ack", "upto": upto}),
        Act::Stats => json!({"id": id, "op": "stats"}),
    };
    line.to_string().into_bytes()
}

/// Checks an answer against the model, and updates the model.
fn check(act: &Act, answer: &Value, model: &mut Model) -> Result<(), TestCaseError> {
    let code = answer["error"]["code"].as_str();
    let ok = &answer["ok"];
    match act {
        Act::Nonsense(_) => {
            prop_assert!(
                matches!(code, Some("bad_json" | "bad_request" | "too_deep")),
                "{}",
                answer
            );
        }
        Act::Hello(1) => {
            prop_assert!(ok["hello"].is_object(), "{}", answer);
            model.has_said_hello = true;
        }
        Act::Hello(_) => prop_assert_eq!(code, Some("version")),
        _ if !model.has_said_hello => prop_assert_eq!(code, Some("hello_first")),
        Act::Watch | Act::WatchZombie => {
            let watch = ok["watched"]["watch"].as_u64();
            let watch = watch.ok_or_else(|| TestCaseError::fail(answer.to_string()))?;
            prop_assert!(!model.all.contains(&watch), "an id was used twice");
            if matches!(act, Act::Watch) {
                model.all.push(watch);
                model.live.insert(watch);
            }
        }
        Act::WatchNoProcess => prop_assert_eq!(code, Some("no_such_process")),
        Act::Unwatch(nth) | Act::Signal(nth) => {
            let watch = model
                .all
                .get(*nth)
                .filter(|watch| model.live.contains(watch))
                .copied();
            match watch {
                Some(watch) => {
                    prop_assert!(ok.is_object(), "{}", answer);
                    if matches!(act, Act::Unwatch(_)) {
                        model.live.remove(&watch);
                    }
                }
                None => prop_assert_eq!(code, Some("no_such_watch")),
            }
        }
        Act::List => {
            let listed = ok["live"]["watches"].as_array().expect("it returns a list");
            let listed: BTreeSet<u64> = listed
                .iter()
                .filter(|live| live["pid"] == std::process::id())
                .map(|live| live["watch"].as_u64().expect("it has an id"))
                .collect();
            prop_assert_eq!(&listed, &model.live);
        }
        Act::Ack(_) => prop_assert!(ok["acked"].is_u64(), "{}", answer),
        Act::Stats => prop_assert!(ok["stats"].is_object(), "{}", answer),
    }
    Ok(())
}

#[test]
fn random_sessions_match_the_model() {
    let service = Service::start(&[]);
    let zombie = Zombie::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(48)
    });
    let result = runner.run(&acts(), |acts| {
        let mut raw = RawClient::connect(&service);
        let mut model = Model::default();
        for (id, act) in acts.iter().enumerate() {
            let line = line(act, &model, &zombie, id);
            // A blank line has no answer.
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let answer = raw.ask(line);
            if !matches!(act, Act::Nonsense(_)) {
                prop_assert_eq!(&answer["id"], &json!(id));
            }
            check(act, &answer, &mut model)?;
        }
        // The next case has the same client name, and starts without watches.
        for watch in &model.live {
            let answer = raw.ask(json!({"op": "unwatch", "watch": watch}).to_string());
            prop_assert!(answer["ok"].is_object(), "{}", answer);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

//! Random lines: none panics, and a valid request survives encoding and decoding.

use std::collections::BTreeMap;

use exitring_protocol::{
    CgroupLimits, ClientLine, Cpus, LimitValue, Request, RequestId, Resource, ResourceLimit, Spawn,
    decode,
};
use proptest::prelude::*;

fn limits() -> impl Strategy<Value = BTreeMap<Resource, ResourceLimit>> {
    let value = || {
        let unlimited = Just(LimitValue::Unlimited);
        proptest::option::of(prop_oneof![
            unlimited,
            any::<u64>().prop_map(LimitValue::Number)
        ])
    };
    let limit = (value(), value()).prop_map(|(soft, hard)| ResourceLimit { soft, hard });
    let resource = proptest::sample::select(&Resource::ALL);
    proptest::collection::btree_map(resource, limit, 0..4)
}

fn cgroup() -> impl Strategy<Value = CgroupLimits> {
    let number = || proptest::option::of(any::<u64>());
    let cpus =
        proptest::option::of((1..1_000_000_u32).prop_map(|number| f64::from(number) / 1000.0));
    (number(), number(), cpus).prop_map(|(memory, processes, cpus)| CgroupLimits {
        memory,
        processes,
        cpus: cpus.and_then(Cpus::new),
    })
}

fn spawn() -> impl Strategy<Value = Spawn> {
    let paths = proptest::option::of("[a-z/]{1,20}");
    (
        proptest::collection::vec(".*", 0..5),
        proptest::option::of(proptest::collection::btree_map(".*", ".*", 0..4)),
        paths,
        proptest::option::of(any::<u64>()),
        ".*",
        limits(),
        proptest::option::of(any::<i32>()),
        proptest::option::of(any::<u32>()),
        proptest::option::of(cgroup()),
    )
        .prop_map(
            |(argv, env, path, timeout_ms, tag, limits, nice, umask, cgroup)| Spawn {
                argv,
                env,
                cwd: path.map(Into::into),
                timeout_ms,
                tag,
                limits,
                nice,
                umask,
                cgroup,
                ..Spawn::default()
            },
        )
}

proptest! {
    #[test]
    fn a_request_survives_encoding_and_decoding(spawn in spawn(), id in any::<u64>()) {
        let line = ClientLine { id: Some(RequestId::Number(id)), request: Request::Spawn(spawn.into()) };
        let text = serde_json::to_vec(&line).unwrap();
        let decoded = decode(&text);
        prop_assert_eq!(decoded.id, line.id);
        prop_assert_eq!(decoded.request, Ok(line.request));
    }

    #[test]
    fn random_bytes_are_refused(line in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(decode(&line).request.is_err());
    }

    #[test]
    fn a_truncated_line_is_refused_with_its_id(id in any::<u64>(), cut in 0_usize..60) {
        let text = format!(r#"{{"id": {id}, "op": "spawn", "argv": ["sh", "-c", "exit 3"], "tag": "a tag"}}"#);
        let whole_id = text.find(',').unwrap() + 1;
        let cut = (whole_id + cut).min(text.len() - 1);
        let decoded = decode(&text.as_bytes()[..cut]);
        prop_assert!(decoded.request.is_err());
        prop_assert_eq!(decoded.id, Some(RequestId::Number(id)));
    }
}

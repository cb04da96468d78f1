//! A service that is killed repeatedly under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use exitring_protocol::{Client, Notice, Outcome, Record, Unknown};

use crate::service::{Service, counts, eventually, sh, stored_records};

/// The number of cycles, unless `EXITRING_SERVE_CYCLES` sets it.
const CYCLES: u64 = 5;
const CLIENTS: u64 = 8;

fn code_of(tag: u64) -> i32 {
    (tag % 200) as i32
}

#[test]
fn a_service_killed_under_load_records_every_child_once_and_correctly() {
    let cycles = std::env::var("EXITRING_SERVE_CYCLES");
    let cycles = cycles.map_or(CYCLES, |cycles| cycles.parse().expect("a number of cycles"));
    let mut service = Service::start(&[]);
    let started = service.directory.path().join("started");
    fs::write(&started, "").expect("it can be written");
    let random = RandomState::new();
    let next_tag = AtomicU64::new(0);
    // What clients received: answers to spawns, and records.
    let answered = Mutex::new(BTreeMap::<u64, u64>::new());
    let received = Mutex::new(BTreeMap::<u64, Record>::new());

    for cycle in 0..cycles {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    spawn_until_killed(&service, &started, &next_tag, &answered, &stop);
                });
            }
            scope.spawn(|| listen_until_killed(&service, &received));
            let pause = 20 + random.hash_one(cycle) % 100;
            std::thread::sleep(Duration::from_millis(pause));
            kill(&service);
            stop.store(true, Ordering::Release);
        });
        service.process.wait().expect("it is a child");
        service.start_again();
    }

    let mut client = service.client();
    eventually("all have ended", || counts(&mut client).watched == 0);
    let records = stored_records(&service, 0);
    let mut by_tag = BTreeMap::new();
    for record in &records {
        let tag: u64 = record.tag.parse().expect("every tag is a number");
        let before = by_tag.insert(tag, record);
        assert_eq!(before, None, "two records of one child: {record:?}");
        // Its own status, or an unknown one.
        match record.outcome {
            Outcome::Exited(code) => assert_eq!(code, code_of(tag), "{record:?}"),
            Outcome::Unknown(Unknown::ServiceDown) => {}
            other => panic!("{other:?} is not a status of these children: {record:?}"),
        }
    }
    let started = fs::read_to_string(&started).expect("it exists");
    let started: Vec<u64> = started
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    let unique: BTreeSet<_> = started.iter().copied().collect();
    assert_eq!(started.len(), unique.len(), "a child ran twice");
    for tag in &unique {
        assert!(
            by_tag.contains_key(tag),
            "child {tag} ran, and has no record"
        );
    }
    // Conversely, a child that did not run exited at its start gate when the service was killed,
    // and its record claims nothing else.
    let mut not_run = 0;
    for (tag, record) in &by_tag {
        if !unique.contains(tag) {
            not_run += 1;
            assert_eq!(
                record.outcome,
                Outcome::Unknown(Unknown::ServiceDown),
                "{record:?}"
            );
        }
    }
    for (tag, watch) in &*answered.lock().expect("no thread panicked") {
        let record = by_tag
            .get(tag)
            .unwrap_or_else(|| panic!("{tag} was answered, and has no record"));
        assert_eq!(record.watch, *watch);
    }
    // A record that was published never changes.
    let received = received.lock().expect("no thread panicked");
    for (seq, record) in &*received {
        let now = records.iter().find(|now| now.seq == *seq);
        assert_eq!(now, Some(record));
    }
    let unknown = records
        .iter()
        .filter(|record| matches!(record.outcome, Outcome::Unknown(_)));
    println!(
        "{cycles} cycles: {} children ran, {} records, {} of unknown outcome, {not_run} of which did not run; \
         {} were received before the end",
        unique.len(),
        records.len(),
        unknown.count(),
        received.len(),
    );
    assert!(unique.len() as u64 >= cycles, "there was no load");
}

fn kill(service: &Service) {
    rustix::process::kill_process(service.pid(), rustix::process::Signal::KILL)
        .expect("it is a child");
}

fn spawn_until_killed(
    service: &Service,
    started: &std::path::Path,
    next_tag: &AtomicU64,
    answered: &Mutex<BTreeMap<u64, u64>>,
    stop: &AtomicBool,
) {
    let Ok(mut client) = Client::connect(service.socket(), None) else {
        return;
    };
    while !stop.load(Ordering::Acquire) {
        let tag = next_tag.fetch_add(1, Ordering::Relaxed);
        let nap = match tag % 4 {
            0 => "sleep 0.05; ",
            _ => "",
        };
        let script = format!(
            "echo {tag} >> {}; {nap}exit {}",
            started.display(),
            code_of(tag)
        );
        match client.spawn(sh(&script, &tag.to_string())) {
            Ok(watched) => {
                let mut answered = answered.lock().expect("no thread panicked");
                answered.insert(tag, watched.watch);
            }
            Err(error) => {
                assert_eq!(error.code(), None, "{error}");
                return;
            }
        }
    }
}

fn listen_until_killed(service: &Service, received: &Mutex<BTreeMap<u64, Record>>) {
    let Ok(mut client) = Client::connect(service.socket(), None) else {
        return;
    };
    let last = received
        .lock()
        .expect("no thread panicked")
        .keys()
        .next_back()
        .copied();
    if client.subscribe(last.unwrap_or(0) + 1).is_err() {
        return;
    }
    while let Ok(notice) = client.notice() {
        let Notice::Exit(record) = notice else {
            continue;
        };
        let mut received = received.lock().expect("no thread panicked");
        let before = received.insert(record.seq, *record);
        assert_eq!(
            before, None,
            "a sequence number was received twice on one connection"
        );
    }
}

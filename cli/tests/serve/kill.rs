//! Killed again and again under load.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use exitring_protocol::{Client, Notice, Outcome, Record, Unknown};

use crate::service::{Service, counts, eventually, kept, sh};

/// How often, unless `EXITRING_SERVE_CYCLES` says.
const CYCLES: u64 = 5;
const CLIENTS: u64 = 8;

fn code_of(tag: u64) -> i32 {
    (tag % 200) as i32
}

#[test]
fn killed_under_load_again_and_again_every_child_has_one_record_and_none_a_wrong_one() {
    let cycles = std::env::var("EXITRING_SERVE_CYCLES");
    let cycles = cycles.map_or(CYCLES, |cycles| cycles.parse().expect("a number of cycles"));
    let mut service = Service::start(&[]);
    let started = service.folder.path().join("started");
    fs::write(&started, "").expect("it can be written");
    let random = RandomState::new();
    let next_tag = AtomicU64::new(0);
    // What clients were told: answers to spawns, and records as they came.
    let answered = Mutex::new(BTreeMap::<u64, u64>::new());
    let told = Mutex::new(BTreeMap::<u64, Record>::new());

    for cycle in 0..cycles {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    spawn_until_it_dies(&service, &started, &next_tag, &answered, &stop);
                });
            }
            scope.spawn(|| listen_until_it_dies(&service, &told));
            let pause = 20 + random.hash_one(cycle) % 100;
            std::thread::sleep(Duration::from_millis(pause));
            kill(&service);
            stop.store(true, Ordering::Release);
        });
        service.process.wait().expect("it is ours");
        service.start_again();
    }

    let mut client = service.client();
    eventually("all have ended", || counts(&mut client).watched == 0);
    let records = kept(&service, 0);
    let mut by_tag = BTreeMap::new();
    for record in &records {
        let tag: u64 = record.tag.parse().expect("ours have numbers");
        let before = by_tag.insert(tag, record);
        assert_eq!(before, None, "two records of one child: {record:?}");
        // Its own status, or none.
        match record.outcome {
            Outcome::Exited(code) => assert_eq!(code, code_of(tag), "{record:?}"),
            Outcome::Unknown(Unknown::ServiceDown) => {}
            other => panic!("{other:?} is none of theirs: {record:?}"),
        }
    }
    let started = fs::read_to_string(&started).expect("it is there");
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
    // The other way round: what did not run was killed with the service at the gate, and its record does not say otherwise.
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
    for (tag, watch) in &*answered.lock().expect("nobody panicked") {
        let record = by_tag
            .get(tag)
            .unwrap_or_else(|| panic!("{tag} was answered, and has no record"));
        assert_eq!(record.watch, *watch);
    }
    // What was once told is so for ever.
    let told = told.lock().expect("nobody panicked");
    for (seq, record) in &*told {
        let now = records.iter().find(|now| now.seq == *seq);
        assert_eq!(now, Some(record));
    }
    let unknown = records
        .iter()
        .filter(|record| matches!(record.outcome, Outcome::Unknown(_)));
    println!(
        "{cycles} cycles: {} children ran, {} records, {} of unknown outcome, {not_run} of which did not run; \
         {} were told before the end",
        unique.len(),
        records.len(),
        unknown.count(),
        told.len(),
    );
    assert!(unique.len() as u64 >= cycles, "there was no load");
}

fn kill(service: &Service) {
    rustix::process::kill_process(service.pid(), rustix::process::Signal::KILL)
        .expect("it is ours");
}

fn spawn_until_it_dies(
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
                let mut answered = answered.lock().expect("nobody panicked");
                answered.insert(tag, watched.watch);
            }
            Err(error) => {
                assert_eq!(error.code(), None, "{error}");
                return;
            }
        }
    }
}

fn listen_until_it_dies(service: &Service, told: &Mutex<BTreeMap<u64, Record>>) {
    let Ok(mut client) = Client::connect(service.socket(), None) else {
        return;
    };
    let last = told
        .lock()
        .expect("nobody panicked")
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
        let mut told = told.lock().expect("nobody panicked");
        let before = told.insert(record.seq, *record);
        assert_eq!(
            before, None,
            "one place in the log was told twice on one connection"
        );
    }
}

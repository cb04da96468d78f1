//! Records: acknowledgement, retention, and subscriptions.

use std::process::{Command, Stdio};

use exitring_protocol::{Client, Notice, Watch};

use crate::service::{
    RawClient, Service, ask_in_parallel, counts, eventually, next_record, sh, stored_records,
    watch_of,
};
use crate::zombie::Zombie;

#[test]
fn records_are_kept_until_their_owner_acknowledges_them() {
    let mut service = Service::start(&[]);
    let (mut a, mut b) = (service.named(Some("a")), service.named(Some("b")));
    for client in [&mut a, &mut b] {
        for _ in 0..3 {
            client.spawn(sh("exit 0", "")).expect("it starts");
        }
    }
    eventually("all have ended", || counts(&mut a).last_seq == 6);
    assert_eq!(a.ack(u64::MAX).expect("it is accepted"), 3);
    assert_eq!(a.ack(u64::MAX).expect("it is accepted"), 0);
    let of_b = stored_records(&service, 0);
    assert_eq!(of_b.len(), 3);
    assert!(of_b.iter().all(|record| record.client == "b"));
    assert_eq!(b.ack(of_b[1].seq).expect("it is accepted"), 2);
    service.kill();
    service.start_again();
    assert_eq!(stored_records(&service, 0), of_b[2..]);
    let mut b = service.named(Some("b"));
    b.spawn(sh("exit 0", "")).expect("it starts");
    b.subscribe(of_b[2].seq + 1).expect("it subscribes");
    // Sequence numbers continue, and older records are not sent.
    assert_eq!(next_record(&mut b).seq, 7);
}

#[test]
fn dropped_unacknowledged_records_are_reported() {
    let service = Service::start(&["--keep", "5", "--tail", "2"]);
    let mut client = service.client();
    let zombie = Zombie::new();
    for _ in 0..20 {
        client
            .watch(watch_of(zombie.pid()))
            .expect("it is not reaped");
    }
    eventually("all are recorded", || {
        let counts = counts(&mut client);
        counts.last_seq == 20 && counts.records == 5
    });
    assert_eq!(counts(&mut client).dropped, 15);
    client.subscribe(3).expect("it subscribes");
    let Notice::Lost(lost) = client.notice().expect("it is reported") else {
        panic!("nothing was lost");
    };
    assert_eq!((lost.from, lost.to, lost.count), (3, 15, 15));
    let seqs: Vec<_> = (0..5).map(|_| next_record(&mut client).seq).collect();
    assert_eq!(seqs, [16, 17, 18, 19, 20]);
    // A subscription to kept records reports no loss.
    client.subscribe(16).expect("it subscribes");
    assert_eq!(next_record(&mut client).seq, 16);
}

#[test]
fn ten_thousand_simultaneous_exits_are_all_recorded() {
    const WATCHES: usize = 10_000;
    let service = Service::start(&["--tail", "1000"]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let mut child = Command::new("cat")
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let watch = |asking: &mut Client| {
        asking
            .watch(watch_of(child.id()))
            .expect("it is alive")
            .watch
    };
    let watches = ask_in_parallel(&service, WATCHES, watch);
    let mut watches: std::collections::BTreeSet<u64> = watches.into_iter().collect();
    assert_eq!(watches.len(), WATCHES);
    drop(child.stdin.take());
    for seq in 1..=WATCHES as u64 {
        let record = next_record(&mut client);
        assert_eq!(record.seq, seq);
        assert!(watches.remove(&record.watch), "a second record: {record:?}");
    }
    child.wait().expect("it is a child");
    assert_eq!(service.counts().watched, 0);
}

#[test]
fn repeated_subscriptions_send_only_whole_lines() {
    let service = Service::start(&[]);
    let mut client = service.client();
    let zombie = Zombie::new();
    for _ in 0..2000 {
        let watch = Watch {
            tag: "x".repeat(256),
            ..watch_of(zombie.pid())
        };
        client.watch(watch).expect("it is not reaped");
    }
    eventually("all are recorded", || counts(&mut client).last_seq == 2000);
    let mut raw = RawClient::connect(&service);
    raw.hello();
    for id in 0..200 {
        raw.send_line(format!(r#"{{"id": {id}, "op": "subscribe"}}"#));
    }
    let (mut answered, mut next) = (0, None);
    // Each subscription starts again, whatever the previous one has sent.
    while answered < 200 || next != Some(2001) {
        let line = raw.receive().expect("it is a line");
        if let Some(id) = line["id"].as_u64() {
            assert_eq!(id, answered);
            answered += 1;
            next = Some(1);
        } else if line["caught_up"].is_u64() {
            // After all records, and not before.
            assert_eq!((line["caught_up"].as_u64(), next), (Some(2000), Some(2001)));
        } else {
            assert_eq!(line["exit"]["seq"].as_u64(), next);
            next = next.map(|seq| seq + 1);
        }
    }
}

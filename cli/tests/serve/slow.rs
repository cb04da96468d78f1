//! Clients that do not read.

use exitring_protocol::Watch;

use crate::service::{
    Service, anonymous_kib, ask_in_parallel, counts, eventually, next_record, watch_of,
};
use crate::zombie::Zombie;

const RECORDS: usize = 20_000;

#[test]
fn a_client_that_does_not_read_delays_no_other_and_misses_no_record() {
    let service = Service::start(&["--tail", "100"]);
    let (mut slow, mut quick) = (service.client(), service.client());
    slow.subscribe(0).expect("it subscribes");
    quick.subscribe(0).expect("it subscribes");
    let zombie = Zombie::new();
    let ask = |count| {
        ask_in_parallel(&service, count, |client| {
            let watch = Watch {
                tag: "x".repeat(256),
                ..watch_of(zombie.pid())
            };
            client.watch(watch).expect("it is not reaped");
        });
    };
    ask(RECORDS / 10);
    let before = anonymous_kib(&service);
    let reading = std::thread::spawn(move || {
        for seq in 1..=RECORDS as u64 {
            assert_eq!(next_record(&mut quick).seq, seq);
        }
    });
    ask(RECORDS - RECORDS / 10);
    // Although the slow client has not read a byte.
    reading.join().expect("all records come in order");
    let after = anonymous_kib(&service);
    // 18,000 records of 500 bytes are 9 MB.
    assert!(after < before + 4 * 1024, "{before} KiB, then {after} KiB");
    for seq in 1..=RECORDS as u64 {
        assert_eq!(next_record(&mut slow).seq, seq);
    }
}

#[test]
fn a_client_that_does_not_read_its_replies_takes_no_memory() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let service = Service::start(&[]);
    let mut flood = UnixStream::connect(service.socket()).expect("it answers");
    flood.set_nonblocking(true).expect("it succeeds");
    flood
        .write_all(b"{\"op\": \"hello\", \"version\": 1}\n")
        .expect("it accepts input");
    let before = anonymous_kib(&service);
    let line = b"{\"op\": \"metrics\"}\n".repeat(1000);
    let mut sent = 0;
    // Until the service reads no more.
    let mut stuck = 0;
    while stuck < 20 {
        match flood.write(&line[sent % line.len()..]) {
            Ok(count) => {
                sent += count;
                stuck = 0;
            }
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock,
                    "after {sent} bytes"
                );
                stuck += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        assert!(sent < 100_000_000, "it reads requests without a limit");
    }
    let after = anonymous_kib(&service);
    assert!(after < before + 2 * 1024, "{before} KiB, then {after} KiB");
    let mut other = service.client();
    assert_eq!(counts(&mut other).clients, 2);
    drop(flood);
    eventually("the connection is closed", || {
        counts(&mut other).clients == 1
    });
}

//! Limits: clients, watches, records and memory.

use exitring_protocol::{Client, Code, Notice, Request, Unwatch, Watch, Watched};

use crate::permissions::{as_nobody, connect, open_directory};
use crate::service::{
    RawClient, Service, anonymous_kib, ask_in_parallel, counts, error_code, eventually, is_root,
    next_record, sh, watch_of,
};

#[test]
fn clients_and_watches_are_limited_and_their_permits_are_released() {
    let service = Service::start(&["--clients", "3", "--watches-per-user", "2"]);
    let mut first = service.client();
    let own = std::process::id();
    let watched = first.watch(watch_of(own)).expect("a permit is left");
    first
        .watch(Watch {
            tag: "t".into(),
            ..watch_of(own)
        })
        .expect("a permit is left");
    let mut second = service.client();
    assert_eq!(
        error_code(second.watch(watch_of(own))),
        Code::TooManyWatches
    );
    assert_eq!(
        error_code(second.spawn(sh("true", ""))),
        Code::TooManyWatches
    );
    first
        .ask(Request::Unwatch(Unwatch {
            watch: watched.watch,
        }))
        .expect("it is live");
    second.watch(watch_of(own)).expect("a permit is left");
    let third = service.client();
    let error = Client::connect(service.socket(), None)
        .err()
        .expect("it is refused");
    assert_eq!(error.code(), Some(Code::TooManyClients));
    drop(third);
    eventually("a permit is left", || {
        Client::connect(service.socket(), None).is_ok()
    });
}

#[test]
fn repeated_watch_and_unwatch_leaks_no_memory() {
    let service = Service::start(&[]);
    let own = std::process::id();
    let turn = |times| {
        ask_in_parallel(&service, times, |client| {
            let Watched { watch, .. } = client.watch(watch_of(own)).expect("this process is alive");
            let unwatch = Request::Unwatch(Unwatch { watch });
            client.ask(unwatch).expect("it is live");
        })
    };
    turn(1000);
    let before = anonymous_kib(&service);
    turn(4000);
    let after = anonymous_kib(&service);
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
}

#[test]
fn a_user_with_many_records_causes_no_drop_for_others() {
    if !is_root("a_user_with_many_records_causes_no_drop_for_others") {
        return;
    }
    let service = Service::start(&["--mode", "0666", "--keep", "20", "--tail", "1"]);
    open_directory(&service);
    let mut root = service.client();
    root.spawn(sh("exit 7", "root's")).expect("it starts");
    eventually("it is recorded", || counts(&mut root).last_seq == 1);
    as_nobody(|| {
        let mut nobody = connect(&service);
        for _ in 0..60 {
            nobody.spawn(sh("exit 0", "")).expect("it starts");
        }
    });
    root.spawn(sh("sleep 0.1", "root's")).expect("it starts");
    eventually("all are recorded, and some are dropped", || {
        let counts = counts(&mut root);
        counts.watched == 0 && counts.records == 20
    });
    // Root sees the losses of all users, and its own older record, which was not dropped.
    root.subscribe(0).expect("it subscribes");
    let notice = root.notice().expect("it is reported");
    let Notice::Lost(lost) = notice else {
        panic!("{notice:?}");
    };
    assert_eq!(lost.count, 42);
    let records: Vec<_> = (0..20).map(|_| next_record(&mut root)).collect();
    assert_eq!((records[0].seq, records[0].tag.as_str()), (1, "root's"));
    let roots = records.iter().filter(|record| record.uid == 0).count();
    assert_eq!(roots, 2);
}

#[test]
fn one_user_cannot_take_all_connections_or_keep_an_idle_one() {
    if !is_root("one_user_cannot_take_all_connections_or_keep_an_idle_one") {
        return;
    }
    let service = Service::start(&["--mode", "0666", "--clients", "16"]);
    open_directory(&service);
    let mut silent = as_nobody(|| {
        let silent = RawClient::connect(&service);
        // Connections are accepted in order.
        let open: Vec<_> = (0..3).map(|_| connect(&service)).collect();
        let error = Client::connect(service.socket(), None).err();
        let error = error.expect("a quarter of 16 are connected");
        assert_eq!(error.code(), Some(Code::TooManyClients));
        assert!(error.to_string().contains("of this user"), "{error}");
        // Other users are served.
        drop(open);
        silent
    });
    service.client();
    let answer = silent.receive().expect("it is reported");
    assert_eq!(answer["error"]["code"], "hello_first");
    assert_eq!(silent.receive(), None);
}

//! A full disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use exitring_protocol::{Code, Outcome};
use tempfile::TempDir;

use crate::service::{
    Service, counts, error_code, eventually, is_root, next_record, sh, stored_records, watch_of,
};
use crate::zombie::Zombie;

/// A small file system. Needs root.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        fs::create_dir(at).expect("it can be created");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0700", "small"])
            .arg(at)
            .status();
        assert!(
            mounted.expect("there is mount").success(),
            "this test needs root"
        );
        Self(at.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: the service may still use it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_new_requests_and_loses_no_exit() {
    if !is_root("a_full_disk_refuses_new_requests_and_loses_no_exit") {
        return;
    }
    let directory = TempDir::new().expect("a directory can be created");
    let state = directory.path().join("state");
    let _small = Small::mount(&state);
    let service = Service::start_in(directory, &[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let release = service.directory.path().join("release");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; exit 9",
        release.display()
    );
    let waiting = client.spawn(sh(&script, "waiting")).expect("it starts");

    let filler = state.join("filler");
    let mut file = File::create(&filler).expect("it can be created");
    while file.write_all(&[0; 4096]).is_ok() {}
    // Also uses up the free space within the files of the state.
    let zombie = Zombie::new();
    let mut asking = service.client();
    let mut taken = 0;
    let code = loop {
        match asking.watch(watch_of(zombie.pid())) {
            Ok(_) => taken += 1,
            result => break error_code(result),
        }
        assert!(taken < 100_000, "the disk is not full");
    };
    assert_eq!(code, Code::Storage);
    let marker = service.directory.path().join("ran");
    let script = format!("echo > {}", marker.display());
    // A few more requests may still succeed: that depends on bytes.
    let refusal = loop {
        match asking.spawn(sh(&script, "refused")) {
            Ok(_) => fs::remove_file(&marker).unwrap_or_default(),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.code(), Some(Code::Storage));
    assert!(refusal.to_string().contains("free space"), "{refusal}");
    eventually("it is reported", || {
        counts(&mut asking).storage_error.is_some()
    });

    // It ends while nothing can be written. The exit is seen and kept, but not published.
    fs::write(&release, "").expect("it can be written");
    eventually("the exit is seen, and waits", || {
        counts(&mut asking).pending > 0
    });
    let published = counts(&mut asking).last_seq;
    let mut received: Vec<_> = (0..published).map(|_| next_record(&mut client)).collect();
    assert!(received.iter().all(|record| record.watch != waiting.watch));
    // Its record is not stored, so it is not reaped: the kernel still has its status.
    assert!(fs::metadata(format!("/proc/{}", waiting.pid)).is_ok());

    drop(file);
    fs::remove_file(&filler).expect("it exists");
    eventually("it is stored", || {
        let counts = counts(&mut asking);
        counts.pending == 0 && counts.storage_error.is_none() && counts.watched == 0
    });
    let last = counts(&mut asking).last_seq;
    while (received.len() as u64) < last {
        received.push(next_record(&mut client));
    }
    let its = received.iter().find(|record| record.watch == waiting.watch);
    assert_eq!(its.expect("it is reported").outcome, Outcome::Exited(9));
    asking
        .spawn(sh("exit 0", "new"))
        .expect("it is accepted again");
    assert_eq!(next_record(&mut client).tag, "new");
    // All records that were received are stored unchanged.
    assert_eq!(stored_records(&service, 0)[..received.len()], received);
}

#[test]
fn a_subscriber_gets_an_error_when_exits_cannot_be_stored() {
    if !is_root("a_subscriber_gets_an_error_when_exits_cannot_be_stored") {
        return;
    }
    let directory = TempDir::new().expect("a directory can be created");
    let state = directory.path().join("state");
    let _small = Small::mount(&state);
    let service = Service::start_in(directory, &[]);
    let mut client = service.client();
    client.subscribe(0).expect("it subscribes");
    let release = service.directory.path().join("release");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", release.display());
    client.spawn(sh(&script, "")).expect("it starts");
    let mut file = File::create(state.join("filler")).expect("it can be created");
    while file.write_all(&[0; 4096]).is_ok() {}
    let zombie = Zombie::new();
    let mut asking = service.client();
    while asking.watch(watch_of(zombie.pid())).is_ok() {}
    fs::write(&release, "").expect("it can be written");
    let error = loop {
        match client.notice() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Some(Code::Storage), "{error}");
    // The error ends the connection.
    assert!(client.notice().is_err());
    // Other requests are still answered, and the exit is stored once that is possible.
    assert!(counts(&mut asking).pending > 0);
    drop(file);
    fs::remove_file(state.join("filler")).expect("it exists");
    eventually("it is stored", || counts(&mut asking).pending == 0);
}

//! The disk is full.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use exitring_protocol::{Code, Outcome};
use tempfile::TempDir;

use crate::records::Zombie;
use crate::service::{Service, counts, eventually, is_root, kept, record, refused, sh, watch_of};

/// A small file system; needs root.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path) -> Self {
        fs::create_dir(at).expect("it can be made");
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
        // Lazily: the service may be there still.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn with_a_full_disk_nothing_new_is_taken_and_nothing_is_lost() {
    if !is_root("with_a_full_disk_nothing_new_is_taken_and_nothing_is_lost") {
        return;
    }
    let folder = TempDir::new().expect("a folder can be made");
    let state = folder.path().join("state");
    let _small = Small::mount(&state);
    let service = Service::start_in(folder, &[]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let release = service.folder.path().join("release");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; exit 9",
        release.display()
    );
    let waiting = client.spawn(sh(&script, "waiting")).expect("it starts");

    let filler = state.join("filler");
    let mut file = File::create(&filler).expect("it can be made");
    while file.write_all(&[0; 4096]).is_ok() {}
    // What room the files of the state have themselves is used up, too.
    let zombie = Zombie::new();
    let mut asking = service.client();
    let mut taken = 0;
    let code = loop {
        match asking.watch(watch_of(zombie.pid())) {
            Ok(_) => taken += 1,
            result => break refused(result),
        }
        assert!(taken < 100_000, "the disk is not full");
    };
    assert_eq!(code, Code::Storage);
    let marker = service.folder.path().join("ran");
    let script = format!("echo > {}", marker.display());
    // Others may be recorded still, or not: it is a matter of bytes. What is sure comes after some more.
    let refusal = loop {
        match asking.spawn(sh(&script, "refused")) {
            Ok(_) => fs::remove_file(&marker).unwrap_or_default(),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.code(), Some(Code::Storage));
    assert!(refusal.to_string().contains("make room"), "{refusal}");
    eventually("it is said", || counts(&mut asking).storage_error.is_some());

    // It ends while nothing can be written: seen, kept, and not told.
    fs::write(&release, "").expect("it can be written");
    eventually("it is seen, and waits", || counts(&mut asking).pending > 0);
    let told = counts(&mut asking).last_seq;
    let mut announced: Vec<_> = (0..told).map(|_| record(&mut client)).collect();
    assert!(announced.iter().all(|record| record.watch != waiting.watch));
    // Its record is not written down, so it is not reaped: the kernel has its status still.
    assert!(fs::metadata(format!("/proc/{}", waiting.pid)).is_ok());

    drop(file);
    fs::remove_file(&filler).expect("it is there");
    eventually("it is written down", || {
        let counts = counts(&mut asking);
        counts.pending == 0 && counts.storage_error.is_none() && counts.watched == 0
    });
    let last = counts(&mut asking).last_seq;
    while (announced.len() as u64) < last {
        announced.push(record(&mut client));
    }
    let its = announced
        .iter()
        .find(|record| record.watch == waiting.watch);
    assert_eq!(its.expect("it is told").outcome, Outcome::Exited(9));
    asking
        .spawn(sh("exit 0", "new"))
        .expect("it is taken again");
    assert_eq!(record(&mut client).tag, "new");
    // All that was announced is kept, as it was.
    assert_eq!(kept(&service, 0)[..announced.len()], announced);
}

#[test]
fn who_waits_for_what_cannot_be_written_gets_an_error_in_the_end() {
    if !is_root("who_waits_for_what_cannot_be_written_gets_an_error_in_the_end") {
        return;
    }
    let folder = TempDir::new().expect("a folder can be made");
    let state = folder.path().join("state");
    let _small = Small::mount(&state);
    let service = Service::start_in(folder, &[]);
    let mut client = service.client();
    client.subscribe(0).expect("it may be had");
    let release = service.folder.path().join("release");
    let script = format!("while [ ! -e {} ]; do sleep 0.02; done", release.display());
    client.spawn(sh(&script, "")).expect("it starts");
    let mut file = File::create(state.join("filler")).expect("it can be made");
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
    // That was the end of the connection.
    assert!(client.notice().is_err());
    // Who asks gets answers still, and the exit is told when it can be written.
    assert!(counts(&mut asking).pending > 0);
    drop(file);
    fs::remove_file(state.join("filler")).expect("it is there");
    eventually("it is written down", || counts(&mut asking).pending == 0);
}

//! Random lives of processes and of who watches them, against a model that knows waitpid and nothing else: what each
//! process came to, and what each callback, wait and queue must therefore have seen.
//!
//! `PROPTEST_CASES` says how many; .ci/run takes 10,000.

mod common;

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use common::*;
use exitring::{
    Backend, CallbackId, Cancel, Child, Closed, Exits, Outcome, Pid, SignalError, Unknown,
    WaitError, Watch, Watcher,
};
use proptest::prelude::*;
use proptest::test_runner::Config;

/// What is done; numbers choose among the processes there are.
#[derive(Clone, Debug)]
enum Act {
    /// A child is forked, and the watcher owns it.
    Own,
    /// A child is forked, which is ours to reap.
    Fork,
    /// One more watch on a child.
    Watch(usize),
    /// The handle is let go of.
    DropHandle(usize),
    OnExit(usize),
    Cancel(usize),
    /// Into the queue of exits.
    Add(usize),
    /// Told to exit with a code.
    Exit(usize, u8),
    /// Killed, through the handle if the child is owned.
    Kill(usize),
    /// Stopped and continued: no end.
    Stop(usize),
    /// Ended and reaped, before or after the watcher saw it.
    Reap(usize),
    /// Waited for by its watcher, once it has been told to end.
    Wait(usize),
    Yield,
}

fn act() -> impl Strategy<Value = Act> {
    let which = || 0_usize..8;
    prop_oneof![
        3 => Just(Act::Own),
        3 => Just(Act::Fork),
        4 => which().prop_map(Act::Watch),
        2 => which().prop_map(Act::DropHandle),
        6 => which().prop_map(Act::OnExit),
        3 => which().prop_map(Act::Cancel),
        2 => which().prop_map(Act::Add),
        4 => (which(), any::<u8>()).prop_map(|(which, code)| Act::Exit(which, code)),
        2 => which().prop_map(Act::Kill),
        1 => which().prop_map(Act::Stop),
        2 => which().prop_map(Act::Reap),
        2 => which().prop_map(Act::Wait),
        1 => Just(Act::Yield),
    ]
}

enum Handle {
    Own(Child),
    Other(Watch),
}

impl std::ops::Deref for Handle {
    type Target = Watch;

    fn deref(&self) -> &Watch {
        match self {
            Self::Own(child) => child,
            Self::Other(watch) => watch,
        }
    }
}

/// A process, as the model knows it.
struct Process {
    pid: Pid,
    owned: bool,
    /// Told to end, so that it will.
    fate: Option<Outcome>,
    /// Somebody else than the watcher has reaped it.
    reaped: bool,
    writer: std::io::PipeWriter,
    handles: Vec<Handle>,
}

/// A callback, and what must come of it.
struct Expected {
    process: usize,
    /// Which handle, of those of the process, and the id there.
    handle: usize,
    id: CallbackId,
    ran: Arc<AtomicU32>,
    cancelled: bool,
}

struct World {
    watcher: Watcher,
    exits: Exits,
    processes: Vec<Process>,
    callbacks: Vec<Expected>,
    /// Which process each tag in the queue means.
    tags: HashMap<u64, usize>,
    wrong: Arc<AtomicU32>,
}

impl World {
    fn new(backend: Backend, workers: usize, capacity: usize) -> Self {
        let builder = Watcher::builder().backend(backend).workers(workers);
        let watcher = builder.queue_capacity(capacity).build().unwrap();
        Self {
            exits: watcher.exits(64).unwrap(),
            watcher,
            processes: Vec::new(),
            callbacks: Vec::new(),
            tags: HashMap::new(),
            wrong: Arc::default(),
        }
    }

    fn fork(&mut self, owned: bool) {
        let (reader, writer) = std::io::pipe().unwrap();
        // SAFETY: the child makes system calls only.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                // Ends of siblings' pipes, this one's writing end, all of no use here.
                libc::dup2(reader.as_raw_fd(), 0);
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
                let mut code = 0_u8;
                let read = libc::read(0, (&raw mut code).cast(), 1);
                libc::_exit(if read == 1 { code.into() } else { 99 });
            }
            Pid::new(pid).unwrap()
        };
        let mut process = Process {
            pid,
            owned,
            fate: None,
            reaped: false,
            writer,
            handles: Vec::new(),
        };
        if owned {
            let child = self.watcher.adopt_pid(pid).unwrap();
            process.handles.push(Handle::Own(child));
        }
        self.processes.push(process);
    }

    fn act(&mut self, act: &Act) {
        let index = |which: usize| which.checked_rem(self.processes.len());
        match *act {
            Act::Own => self.fork(true),
            Act::Fork => self.fork(false),
            Act::Yield => std::thread::sleep(Duration::from_micros(200)),
            Act::Watch(which) => {
                let Some(process) = index(which).map(|index| &mut self.processes[index]) else {
                    return;
                };
                // What the watcher may reap at any moment is watched by its own handle alone.
                if process.owned || process.reaped {
                    return;
                }
                process
                    .handles
                    .push(Handle::Other(self.watcher.watch(process.pid).unwrap()));
            }
            Act::DropHandle(which) => {
                let Some(index) = index(which) else { return };
                let process = &mut self.processes[index];
                // Its callbacks stay; they are known by the place of the handle, so only the last goes.
                let last = process.handles.len().wrapping_sub(1);
                let in_use =
                    |callback: &Expected| callback.process == index && callback.handle == last;
                if process.handles.len() > 1 && !self.callbacks.iter().any(in_use) {
                    process.handles.pop();
                }
            }
            Act::OnExit(which) => {
                let Some(index) = index(which) else { return };
                let process = &self.processes[index];
                let Some(handle) = process.handles.len().checked_sub(1) else {
                    return;
                };
                let ran = Arc::new(AtomicU32::new(0));
                let (runs, wrong, pid) = (Arc::clone(&ran), Arc::clone(&self.wrong), process.pid);
                let id = process.handles[handle]
                    .on_exit(move |exit| {
                        runs.fetch_add(1, Ordering::SeqCst);
                        wrong.fetch_add(u32::from(exit.pid() != pid), Ordering::SeqCst);
                    })
                    .unwrap();
                self.callbacks.push(Expected {
                    process: index,
                    handle,
                    id,
                    ran,
                    cancelled: false,
                });
            }
            Act::Cancel(which) => {
                let Some(index) = which.checked_rem(self.callbacks.len()) else {
                    return;
                };
                let callback = &mut self.callbacks[index];
                let process = &self.processes[callback.process];
                let ran = || callback.ran.load(Ordering::SeqCst);
                match process.handles[callback.handle].cancel(callback.id) {
                    Cancel::Cancelled => {
                        assert!(!callback.cancelled && ran() == 0);
                        callback.cancelled = true;
                    }
                    // It has run to its end, or was cancelled before.
                    Cancel::NotPending => assert_eq!(ran(), u32::from(!callback.cancelled)),
                    other => panic!("{other:?}, and we are no callback"),
                }
                assert!(ran() == 0 || process.fate.is_some(), "it lives");
            }
            Act::Add(which) => {
                let Some(index) = index(which) else { return };
                let Some(handle) = self.processes[index].handles.last() else {
                    return;
                };
                let tag = self.tags.len() as u64;
                if self.exits.add(handle, tag).is_ok() {
                    self.tags.insert(tag, index);
                }
            }
            Act::Exit(which, code) => {
                let Some(process) = index(which).map(|index| &mut self.processes[index]) else {
                    return;
                };
                if process.fate.is_none() {
                    std::io::Write::write_all(&mut process.writer, &[code]).unwrap();
                    process.fate = Some(Outcome::Exited(code.into()));
                }
            }
            Act::Kill(which) => {
                let Some(process) = index(which).map(|index| &mut self.processes[index]) else {
                    return;
                };
                if process.fate.is_some() {
                    return;
                }
                match process.handles.first() {
                    Some(Handle::Own(child)) => child.kill().unwrap(),
                    _ => {
                        // SAFETY: it lives, and is ours to reap.
                        let killed = unsafe { libc::kill(process.pid.as_raw(), libc::SIGKILL) };
                        assert_eq!(killed, 0);
                    }
                }
                process.fate = Some(Outcome::Signaled {
                    signal: libc::SIGKILL,
                    core_dumped: false,
                });
            }
            Act::Stop(which) => {
                let Some(process) = index(which).map(|index| &self.processes[index]) else {
                    return;
                };
                for signal in [libc::SIGSTOP, libc::SIGCONT] {
                    match process.handles.first() {
                        Some(Handle::Own(child)) => match child.signal(signal) {
                            Ok(()) => {}
                            Err(SignalError::Exited) => assert!(process.fate.is_some()),
                            Err(error) => panic!("{error}"),
                        },
                        // SAFETY: if it was not reaped, it has its pid.
                        _ if !process.reaped => unsafe {
                            libc::kill(process.pid.as_raw(), signal);
                        },
                        _ => {}
                    }
                }
            }
            Act::Reap(which) => {
                let Some(process) = index(which).map(|index| &mut self.processes[index]) else {
                    return;
                };
                if let (false, false, Some(fate)) = (process.owned, process.reaped, process.fate) {
                    assert_eq!(wait(process.pid), fate);
                    process.reaped = true;
                }
            }
            Act::Wait(which) => {
                let Some(process) = index(which).map(|index| &self.processes[index]) else {
                    return;
                };
                if let (Some(handle), Some(_)) = (process.handles.last(), process.fate) {
                    check(process, handle);
                }
            }
        }
    }

    /// Everything comes to its end, and all that must have been seen has been.
    fn end(mut self) {
        for index in 0..self.processes.len() {
            self.act(&Act::Exit(index, 42));
        }
        for process in &self.processes {
            for handle in &process.handles {
                check(process, handle);
            }
        }
        let mut tags = self.tags;
        while let Some(tagged) = self.exits.recv_timeout(FOREVER).unwrap() {
            let process = tags.remove(&tagged.tag).expect("each tag comes once");
            assert_eq!(tagged.exit.pid(), self.processes[process].pid);
        }
        assert!(tags.is_empty(), "{tags:?} did not come");
        for callback in &self.callbacks {
            let expected = u32::from(!callback.cancelled);
            let ran = || callback.ran.load(Ordering::SeqCst);
            until("each callback has run", || ran() >= expected);
        }
        until_stats(&self.watcher, "nothing is watched", |stats| {
            stats.watched == 0
        });
        drop(self.watcher);
        for callback in &self.callbacks {
            let ran = callback.ran.load(Ordering::SeqCst);
            assert_eq!(ran, u32::from(!callback.cancelled));
        }
        assert_eq!(self.wrong.load(Ordering::SeqCst), 0);
        for process in &self.processes {
            let fate = process.fate.expect("all have ended");
            match (process.owned, process.reaped) {
                // What is only watched is left to be reaped.
                (false, false) => assert_eq!(wait(process.pid), fate),
                (false, true) => {}
                (true, _) => assert!(is_gone(process.pid), "an owned child is reaped"),
            }
        }
    }

    /// The watcher is dropped in the middle of it all: nothing runs afterwards, nobody waits for ever, and owned
    /// children are reaped all the same.
    fn drop_early(mut self) {
        drop(self.watcher);
        let ran = |callback: &Expected| callback.ran.load(Ordering::SeqCst);
        let ran_before: Vec<_> = self.callbacks.iter().map(ran).collect();
        for process in &mut self.processes {
            if process.fate.is_none() {
                std::io::Write::write_all(&mut process.writer, &[42]).unwrap();
                process.fate = Some(Outcome::Exited(42));
            }
        }
        for process in &self.processes {
            for handle in &process.handles {
                match handle.wait_timeout(FOREVER) {
                    Ok(Some(_)) => check(process, handle),
                    Ok(None) => panic!("it waits for ever"),
                    Err(error) => assert_eq!(error, WaitError::Closed(Closed::Dropped)),
                }
                assert!(handle.on_exit(|_| panic!("it is gone")).is_err());
            }
            match (process.owned, process.reaped) {
                (true, _) => until("the orphan is reaped", || is_gone(process.pid)),
                (false, true) => {}
                (false, false) => assert_eq!(Some(wait(process.pid)), process.fate),
            }
        }
        for (callback, before) in self.callbacks.iter().zip(ran_before) {
            assert!(before <= u32::from(!callback.cancelled));
            assert_eq!(ran(callback), before);
        }
        assert_eq!(self.wrong.load(Ordering::SeqCst), 0);
    }
}

/// What a handle says of a process that has ended, or will at once.
fn check(process: &Process, handle: &Watch) {
    let exit = handle.wait_timeout(FOREVER).unwrap().expect("it comes");
    assert_eq!(exit.pid(), process.pid);
    let outcome = exit.outcome();
    let fate = process.fate.expect("it was told to end");
    // Reaped before it was looked at: the kernel tells from 6.15 on, and through an open pidfd.
    let untellable = Outcome::Unknown(Unknown::ReapedElsewhere);
    assert!(
        outcome == fate || (process.reaped && outcome == untellable),
        "{outcome:?}, not {fate:?}"
    );
}

/// The plain way.
fn wait(pid: Pid) -> Outcome {
    let mut status = 0;
    // SAFETY: a live integer.
    let reaped = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, 0) };
    assert_eq!(reaped, pid.as_raw());
    match libc::WIFEXITED(status) {
        true => Outcome::Exited(libc::WEXITSTATUS(status)),
        false => Outcome::Signaled {
            signal: libc::WTERMSIG(status),
            core_dumped: libc::WCOREDUMP(status),
        },
    }
}

fn is_gone(pid: Pid) -> bool {
    // SAFETY: a null pointer, and nothing is reaped.
    let waited = unsafe {
        libc::waitid(
            libc::P_PID,
            pid.as_raw() as libc::id_t,
            std::ptr::null_mut(),
            libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
        )
    };
    waited == -1
}

proptest! {
    #![proptest_config(Config {
        // Shrinking runs real processes again and again.
        max_shrink_iters: 200,
        failure_persistence: None,
        ..Config::default()
    })]

    #[test]
    fn whatever_is_done_everybody_sees_what_waitpid_would(
        acts in prop::collection::vec(act(), 1..40),
        workers in 0_usize..3,
        capacity in 1_usize..4,
        epoll in any::<bool>(),
        early in prop::bool::weighted(0.2),
    ) {
        let backend = if epoll { Backend::Epoll } else { Backend::Uring };
        let mut world = World::new(backend, workers, capacity);
        for act in &acts {
            world.act(act);
        }
        match early {
            true => world.drop_early(),
            false => world.end(),
        }
    }
}

//! The design of the Shadow simulator's child watcher, written anew: one thread, pidfds in an epoll
//! that returns ten events at a time, and one lock, which is held while callbacks run.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use exitring::Pid;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::process::{PidfdFlags, pidfd_open};

use super::contestant::Contestant;
use crate::measure::recorder::{Delivery, Recorder, reap};

const EVENTS: usize = 10;

type Callback = Box<dyn FnOnce(Pid) + Send>;

struct Watched {
    pidfd: OwnedFd,
    callbacks: Vec<Callback>,
}

struct Inner {
    epoll: OwnedFd,
    children: Mutex<HashMap<i32, Watched>>,
}

pub(crate) struct Shadow {
    recorder: Arc<Recorder>,
    inner: Arc<Inner>,
}

impl Shadow {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Result<Self> {
        let inner = Arc::new(Inner {
            epoll: epoll::create(CreateFlags::CLOEXEC).context("creating an epoll")?,
            children: Mutex::default(),
        });
        let for_thread = Arc::clone(&inner);
        std::thread::Builder::new()
            .name("shadow".into())
            .spawn(move || for_thread.run())
            .context("starting a thread")?;
        Ok(Self { recorder, inner })
    }
}

impl Inner {
    fn run(&self) {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            // The only error is EINTR.
            if epoll::wait(&self.epoll, spare_capacity(&mut events), None).is_err() {
                continue;
            }
            let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events.drain(..) {
                let raw = event.data.u64() as i32;
                let (Some(watched), Ok(pid)) = (children.remove(&raw), Pid::new(raw)) else {
                    continue;
                };
                let _ = epoll::delete(&self.epoll, &watched.pidfd);
                for callback in watched.callbacks {
                    callback(pid);
                }
            }
        }
    }
}

impl Contestant for Shadow {
    fn watch(&mut self, pid: Pid, index: usize) -> Result<()> {
        let number = rustix::process::Pid::from_raw(pid.as_raw()).context("pid 0")?;
        let recorder = Arc::clone(&self.recorder);
        let callback = move |pid| {
            let delivery = Delivery::begin(index);
            let code = reap(pid);
            delivery.end(&recorder, pid, code);
        };
        let pidfd = pidfd_open(number, PidfdFlags::empty()).context("pidfd_open")?;
        let mut children = self
            .inner
            .children
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let data = EventData::new_u64(pid.as_raw() as u64);
        epoll::add(&self.inner.epoll, &pidfd, data, EventFlags::IN)
            .with_context(|| format!("adding descriptor {} to the epoll", pidfd.as_raw_fd()))?;
        let watched = Watched {
            pidfd,
            callbacks: vec![Box::new(callback)],
        };
        children.insert(pid.as_raw(), watched);
        Ok(())
    }
}

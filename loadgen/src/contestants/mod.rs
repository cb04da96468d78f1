//! The contestants: the ways to learn that children have ended, one file each.
//!
//! `contestant` is their interface, and `requirements` says who can take part in what. `rounds`
//! asks for the requirements; scenarios [`make`] a contestant and use it through the interface.
//! Contestants report exits to the recorder of `measure`. They do not call each other.

mod async_process;
mod contestant;
mod exitring;
mod external;
mod requirements;
mod service;
mod shadow;
mod sigchld_scan;
mod thread_per_child;
mod tokio;
mod uring_waitid;
mod wait_loop;

use std::sync::Arc;

use ::exitring::Backend;
use anyhow::Result;

pub(crate) use self::contestant::Contestant;
use self::exitring::{Exitring, Reaper};
pub(crate) use self::requirements::reason_unable;
use crate::measure::recorder::Recorder;
use crate::types::kind::Kind;
use crate::types::run_spec::RunSpec;

/// Makes a contestant that is ready to watch children.
pub(crate) fn make(spec: &RunSpec, recorder: &Arc<Recorder>) -> Result<Box<dyn Contestant>> {
    let (kind, workers) = (spec.kind, spec.workers);
    if kind.is_service() {
        return Ok(Box::new(service::Service::new(spec, recorder)?));
    }
    let recorder = Arc::clone(recorder);
    Ok(match kind {
        Kind::Exitring => Box::new(Exitring::new(
            Backend::Auto,
            workers,
            Reaper::Watcher,
            recorder,
        )?),
        Kind::ExitringInline => {
            Box::new(Exitring::new(Backend::Auto, 0, Reaper::Watcher, recorder)?)
        }
        Kind::ExitringWatch => Box::new(Exitring::new(
            Backend::Auto,
            workers,
            Reaper::Callback,
            recorder,
        )?),
        Kind::ExitringEpoll => {
            Box::new(Exitring::new(Backend::Epoll, 0, Reaper::Watcher, recorder)?)
        }
        Kind::Shadow => Box::new(shadow::Shadow::new(recorder)?),
        Kind::Tokio => Box::new(tokio::Tokio::new(recorder)?),
        Kind::AsyncProcess => Box::new(async_process::AsyncProcess::new(recorder)?),
        Kind::SigchldScan => Box::new(sigchld_scan::SigchldScan::new(recorder)?),
        Kind::ThreadPerChild => Box::new(thread_per_child::ThreadPerChild::new(recorder)),
        Kind::UringWaitid => Box::new(uring_waitid::UringWaitid::new(recorder)?),
        Kind::PythonAsyncio | Kind::Node => Box::new(external::External::new(kind, recorder)?),
        Kind::WaitLoop => Box::new(wait_loop::WaitLoop::new(recorder)),
        Kind::Serve | Kind::ServePower => unreachable!("made above"),
    })
}

//! The contestants: the ways to learn that children have ended, one file each.
//!
//! `contestant` is their interface, and `requirements` says who can take part in what. `rounds`
//! asks for the requirements; scenarios [`make`] a contestant and use it through the interface.
//! Contestants report exits to the recorder of `measure`. They do not call each other. `job_threads`
//! and `forked_children` are for those that block a thread for each child, `registration` is for those
//! whose thread registers children later, `starter` is for the ways in which exitring starts programs,
//! and `toolchain` makes those in other languages.

mod async_process;
mod contestant;
mod exitring;
mod external;
mod forked_children;
mod job_threads;
mod poll_floor;
mod posix_spawn;
mod registration;
mod requirements;
mod service;
mod shadow;
mod sigchld_scan;
mod starter;
mod std_spawn;
mod thread_per_child;
mod tokio;
mod toolchain;
mod uring_waitid;
mod wait_loop;

use std::sync::Arc;

use ::exitring::{Backend, Watcher};
use anyhow::Result;

pub(crate) use self::contestant::Contestant;
use self::exitring::{Exitring, Reaper};
pub(crate) use self::requirements::reason_unable;
use self::starter::Starter;
use crate::measure::recorder::Recorder;
use crate::types::kind::Kind;
use crate::types::run_spec::RunSpec;
use crate::types::scenario::Scenario;

/// Makes a contestant that is ready to watch children.
pub(crate) fn make(spec: &RunSpec, recorder: &Arc<Recorder>) -> Result<Box<dyn Contestant>> {
    let (kind, workers) = (spec.kind, spec.workers);
    if kind.is_service() {
        return Ok(Box::new(service::Service::new(spec, recorder)?));
    }
    let recorder = Arc::clone(recorder);
    let exitring = |builder, reaper, starter| -> Result<Box<dyn Contestant>> {
        let recorder = Arc::clone(&recorder);
        let contestant = Exitring::new(builder, reaper, starter, recorder)?;
        Ok(Box::new(match spec.scenario {
            Scenario::Capture(_) => contestant.with_capturing_threads(spec.blocking_threads())?,
            _ => contestant,
        }))
    };
    let builder = Watcher::builder().workers(workers);
    let inline = || Watcher::builder().workers(0);
    let started_by = |starter| exitring(builder.clone(), Reaper::Watcher, starter);
    Ok(match kind {
        Kind::Exitring => started_by(Starter::command())?,
        Kind::ExitringInline => exitring(inline(), Reaper::Watcher, Starter::command())?,
        Kind::ExitringNoUsage => {
            exitring(builder.usage(false), Reaper::Watcher, Starter::command())?
        }
        Kind::ExitringWatch => exitring(builder, Reaper::Callback, Starter::Std)?,
        Kind::ExitringEpoll => {
            let builder = inline().backend(Backend::Epoll);
            exitring(builder, Reaper::Watcher, Starter::command())?
        }
        Kind::ExitringStd => started_by(Starter::Std)?,
        Kind::ExitringPreExec => started_by(Starter::StdPreExec)?,
        Kind::ExitringCgroup => started_by(Starter::in_cgroups()?)?,
        Kind::Shadow => Box::new(shadow::Shadow::new(recorder)?),
        Kind::Tokio => Box::new(tokio::Tokio::new(recorder)?),
        Kind::AsyncProcess => Box::new(async_process::AsyncProcess::new(recorder)?),
        Kind::SigchldScan => Box::new(sigchld_scan::SigchldScan::new(recorder)?),
        Kind::ThreadPerChild => Box::new(thread_per_child::ThreadPerChild::new(recorder)),
        Kind::UringWaitid => Box::new(uring_waitid::UringWaitid::new(recorder)?),
        Kind::PollFloor => Box::new(poll_floor::PollFloor::new(false, recorder)?),
        Kind::PollFloorWorker => Box::new(poll_floor::PollFloor::new(true, recorder)?),
        Kind::PythonAsyncio | Kind::Node | Kind::Go | Kind::Libuv | Kind::SdEvent => {
            Box::new(external::External::new(spec, recorder)?)
        }
        Kind::WaitLoop => Box::new(wait_loop::WaitLoop::new(recorder)),
        Kind::StdSpawn => Box::new(std_spawn::StdSpawn::new(recorder)?),
        Kind::PosixSpawn => Box::new(posix_spawn::PosixSpawn::new(
            spec.blocking_threads(),
            recorder,
        )?),
        Kind::Serve | Kind::ServePower => unreachable!("made above"),
    })
}

//! What becomes of the watches that were live when the service ended.
//!
//! | process, at the start | and | record |
//! |---|---|---|
//! | a child of ours (executed in place) | runs or is a zombie | its status, as if nothing had been |
//! | its pidfd came from systemd's store | runs | its status when it is reaped (Linux 6.15) |
//! | | was reaped | its status (Linux 6.15), else unknown: service down |
//! | runs, same start time and inode | is past its gate, or was only watched | its status when it is reaped (Linux 6.15) |
//! | | waits at its gate | it ends there: unknown, service down |
//! | is a zombie that nobody reaps | for ten seconds | unknown: not reaped |
//! | has another start time or inode, or is not there | or the machine was booted | unknown: service down |

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exitring_protocol::{Moment, Outcome, Unknown};

use super::clock::{boot_id, now_ms};
use super::live::{Birth, Live};
use super::process;
use super::service::{Service, identified};
use super::spawn::VARIABLE;
use super::store::{Ended, Restored};

/// How long what waits at its gate may take to notice that its service is gone.
const AT_GATE: Duration = Duration::from_secs(2);
/// How often zombies are looked for, and how often in a row one is seen before it is given up.
const ZOMBIES_EVERY: Duration = Duration::from_secs(5);
const ZOMBIE_LOOKS: u32 = 2;

/// Goes through all of them. `pidfds`: from systemd's store.
pub(super) fn restore(
    service: &Arc<Service>,
    before: Vec<Restored>,
    mut pidfds: HashMap<u64, OwnedFd>,
) {
    let boot = boot_id();
    let (mut goes_on, mut gone) = (0, 0);
    let mut at_gates = Vec::new();
    for row in before {
        let stored = pidfds.remove(&row.birth.id);
        let same_boot = row.boot == boot;
        match find(row.birth, same_boot, stored) {
            Found::Lives(live, pidfd) => {
                goes_on += 1;
                resume(service, &live, pidfd);
            }
            Found::AtGate(live, pidfd) => at_gates.push((live, pidfd)),
            Found::Ended(live, outcome) => {
                gone += 1;
                service.registry.restore(Arc::clone(&live));
                end(service, live, outcome);
            }
        }
    }
    // The ones with pidfds in the store and no row ended before, or were forgotten.
    drop(pidfds);
    let births = at_gates.iter().map(|(live, _)| live.birth.clone());
    let past = past_gates(&service.instance, births.collect());
    for (live, pidfd) in at_gates {
        let known = past.get(&live.birth.id).copied();
        // Of some it could not be told in time, for they have another environment: what waits at a gate is gone by now.
        match known.unwrap_or_else(|| !is_over(&live.birth)) {
            true => {
                goes_on += 1;
                resume(service, &live, pidfd);
            }
            false => {
                gone += 1;
                service.registry.restore(Arc::clone(&live));
                end(service, live, Outcome::Unknown(Unknown::ServiceDown));
            }
        }
    }
    if goes_on + gone > 0 {
        tracing::info!(
            live = goes_on,
            ended = gone,
            "watches from before the restart"
        );
    }
}

enum Found {
    Lives(Arc<Live>, OwnedFd),
    /// Started, and perhaps not past its gate.
    AtGate(Arc<Live>, OwnedFd),
    Ended(Arc<Live>, Outcome),
}

fn find(birth: Birth, same_boot: bool, stored: Option<OwnedFd>) -> Found {
    let down = Outcome::Unknown(Unknown::ServiceDown);
    if !same_boot {
        return Found::Ended(Live::new(birth, false, false), down);
    }
    if let Some(pidfd) = stored
        // One that somebody else put there under its name would be another process.
        && process::inode(&pidfd) == birth.inode
    {
        return match process::pid_of(&pidfd) {
            Ok(Some(pid)) if pid == birth.pid => Found::Lives(stranger(birth), pidfd),
            _ => {
                let outcome = process::outcome_of(&pidfd).unwrap_or(down);
                Found::Ended(stranger(birth), outcome)
            }
        };
    }
    let pidfd = loop {
        match identified(&birth) {
            Ok(Some(pidfd)) => break pidfd,
            Ok(None) => return Found::Ended(Live::new(birth, false, false), down),
            // It is there, and cannot be looked at for a moment.
            Err(error) => {
                tracing::warn!(watch = birth.id, %error, "looking for a process is tried again");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    };
    if birth.spawned && process::is_own_child(birth.pid) {
        return Found::Lives(Live::new(birth, true, false), pidfd);
    }
    match birth.spawned {
        true => Found::AtGate(stranger(birth), pidfd),
        false => Found::Lives(stranger(birth), pidfd),
    }
}

/// What is not a child any more: its status is told once whoever inherited it has reaped it.
fn stranger(birth: Birth) -> Arc<Live> {
    let orphan = birth.spawned;
    let until = if orphan { Moment::Reaped } else { birth.until };
    Live::new(Birth { until, ..birth }, false, orphan)
}

/// Whether it has become the program: only then does its environment say whose it is. A zombie has none any more, nor
/// has a program that hides it from us, which what waits at a gate does not.
fn is_past_gate(instance: &str, birth: &Birth) -> bool {
    match std::fs::read(format!("/proc/{}/environ", birth.pid)) {
        Ok(environment) => {
            let its = format!("{VARIABLE}={instance}:{}", birth.id);
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == its.as_bytes())
        }
        Err(error) => error.raw_os_error() == Some(libc::EACCES),
    }
}

/// Waits until each is either past its gate or dead; all of them for so long together. On another thread, for to read an
/// environment may take as long as the process likes.
fn past_gates(instance: &str, births: Vec<Birth>) -> HashMap<u64, bool> {
    let until = Instant::now() + AT_GATE;
    let (tell, told) = std::sync::mpsc::channel();
    let instance = instance.to_owned();
    let look = move || {
        let mut left = births;
        while !left.is_empty() && Instant::now() < until {
            left.retain(|birth| {
                let past = is_past_gate(&instance, birth);
                let known = past || is_over(birth);
                // Nobody listens any more when the time is over.
                !known || tell.send((birth.id, past)).is_err()
            });
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    std::thread::spawn(look);
    let mut past = HashMap::new();
    // Ends with the thread, at the latest with the time.
    while let Ok((id, is_past)) = told.recv_timeout(until.saturating_duration_since(Instant::now()))
    {
        past.insert(id, is_past);
    }
    past
}

fn is_over(birth: &Birth) -> bool {
    process::stat(birth.pid).is_none_or(|stat| stat.state == b'Z')
}

fn resume(service: &Arc<Service>, live: &Arc<Live>, pidfd: OwnedFd) {
    service.registry.restore(Arc::clone(live));
    service.deadlines.add(live);
    if let Err(error) = service.arm(live, pidfd) {
        tracing::warn!(watch = live.birth.id, %error, "a process from before is watched later");
        let (service, live) = (Arc::clone(service), Arc::clone(live));
        std::thread::spawn(move || try_again(&service, &live));
    }
}

/// Until it works: there may be no descriptors for a while.
fn try_again(service: &Arc<Service>, live: &Arc<Live>) {
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let armed = match identified(&live.birth) {
            Ok(Some(pidfd)) => service.arm(live, pidfd),
            Ok(None) => {
                let down = Outcome::Unknown(Unknown::ServiceDown);
                return end(service, Arc::clone(live), down);
            }
            Err(_) => continue,
        };
        match armed {
            Ok(()) => return,
            Err(error) if error.code == exitring_protocol::Code::Stopping => return,
            Err(_) => {}
        }
    }
}

fn end(service: &Service, live: Arc<Live>, outcome: Outcome) {
    service.store.exit(Ended {
        live,
        outcome,
        usage: None,
        ended_ms: now_ms(),
    });
}

/// Gives up on what has ended and is reaped by nobody, for whoever inherited it does not wait. For ever.
pub(super) async fn look_for_zombies(service: Arc<Service>) {
    let mut seen: HashMap<u64, u32> = HashMap::new();
    loop {
        tokio::time::sleep(ZOMBIES_EVERY).await;
        let orphans = service
            .registry
            .all()
            .into_iter()
            .filter(|live| live.orphan);
        let zombies = orphans.filter(|live| {
            process::stat(live.birth.pid).is_some_and(|stat| {
                stat.state == b'Z' && stat.start_ticks == live.birth.start_ticks
            })
        });
        let mut now = HashMap::new();
        for live in zombies {
            let id = live.birth.id;
            let looks = seen.get(&id).copied().unwrap_or(0) + 1;
            if looks >= ZOMBIE_LOOKS {
                end(&service, live, Outcome::Unknown(Unknown::NotReaped));
            } else {
                now.insert(id, looks);
            }
        }
        seen = now;
    }
}

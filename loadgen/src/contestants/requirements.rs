//! The scenarios that each contestant can take part in.

use super::{poll_floor, service, starter, toolchain, uring_waitid};
use crate::types::kind::Kind;
use crate::types::scenario::Scenario;

/// The reason why a contestant cannot take part in a scenario of any size, if there is one.
pub(crate) fn reason_unable(kind: Kind, scenario: &Scenario) -> Option<String> {
    match scenario {
        _ if kind == Kind::PosixSpawn && !scenario.executes_programs() => {
            Some("only starts programs: it takes part in spawn, churn --exec and capture".into())
        }
        _ if kind.is_starter() && !scenario.executes_programs() => Some(
            "differs from exitring only in the start of programs: it takes part in spawn, churn \
             --exec and capture"
                .into(),
        ),
        _ if kind == Kind::StdSpawn && !matches!(scenario, Scenario::Spawn(_)) => {
            Some("has one child at a time: it takes part in spawn".into())
        }
        Scenario::Spawn(options) if options.resident.is_some() && kind.is_external() => Some(
            "starts its children in a process of its own, which --resident does not enlarge".into(),
        ),
        Scenario::Capture(_) if !kind.reads_output() => {
            Some("has no way to read output: it only watches exits".into())
        }
        Scenario::Register(_) if !kind.takes_pids() => Some(
            "watches only children that it starts itself: its registration cannot be separated \
             from the fork"
                .into(),
        ),
        Scenario::Soak(_) if kind != Kind::Exitring => {
            Some("soak tests features that only exitring has".into())
        }
        Scenario::Abandon(_) if !kind.has_watches_without_callback() => {
            Some("only exitring has watches without a callback".into())
        }
        Scenario::Churn(options) if kind.is_external() && !options.exec => Some(
            "its children are executed programs, requested through a pipe: their start would be \
             measured as well; churn --exec compares it"
                .into(),
        ),
        Scenario::Serve(_) if kind.is_service() => service::missing(),
        _ if kind.is_service() => Some("the service takes part in serve only".into()),
        _ if kind == Kind::ExitringCgroup => starter::reason_without_cgroups(),
        _ if kind == Kind::UringWaitid => uring_waitid::missing(),
        _ if kind.is_floor() => poll_floor::missing(),
        _ => toolchain::missing(kind),
    }
}

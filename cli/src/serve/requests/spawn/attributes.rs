//! What a child sets for itself: resource limits, nice value, file mode creation mask.
//!
//! The service checks what the client's user may do, and names the cause of a refusal. The kernel
//! checks it again: the child sets its limits and its nice value as that user.

use exitring_protocol::{Code, Error, LimitValue, Resource, ResourceLimit, Spawn};
use rustix::fs::Mode;
use rustix::process::{Rlimit, getpid, getpriority_process, getrlimit};

use super::refusal::out_of_range;
use crate::serve::service::{Peer, Service};

/// The largest value of each permission bit.
const UMASK_MAX: u32 = 0o777;
/// As the kernel has them.
const NICE: std::ops::RangeInclusive<i32> = -20..=19;

/// The attributes of one child, as the kernel takes them.
pub(super) struct Attributes {
    pub(super) limits: Vec<(Resource, Rlimit)>,
    pub(super) nice: Option<i32>,
    pub(super) umask: Option<Mode>,
}

impl Attributes {
    /// Checks the attributes of a request.
    pub(super) fn new(service: &Service, peer: Peer, spawn: &Spawn) -> Result<Self, Error> {
        let is_root = peer.uid == 0;
        // The service has raised its own limit of descriptors.
        let inherited = |resource| match resource {
            Resource::Nofile => service.descriptor_limit,
            _ => getrlimit(kernel_resource(resource)),
        };
        let mut limits = Vec::new();
        for (&resource, &wanted) in &spawn.limits {
            limits.push((
                resource,
                limit(resource, wanted, inherited(resource), is_root)?,
            ));
        }
        if !spawn.limits.contains_key(&Resource::Nofile) {
            limits.push((Resource::Nofile, service.descriptor_limit));
        }
        if let Some(nice) = spawn.nice {
            // That of the main thread, which forks: the kernel has one for each thread.
            let own = getpriority_process(Some(getpid())).unwrap_or(0);
            check_nice(nice, own, is_root)?;
        }
        Ok(Self {
            limits,
            nice: spawn.nice,
            umask: spawn.umask.map(umask).transpose()?,
        })
    }
}

/// A limit from what the request has, and from what the child would inherit.
fn limit(
    resource: Resource,
    wanted: ResourceLimit,
    inherited: Rlimit,
    is_root: bool,
) -> Result<Rlimit, Error> {
    let own_hard = inherited.maximum.unwrap_or(u64::MAX);
    let hard = wanted.hard.map_or(own_hard, number);
    if hard > own_hard && !is_root {
        let message = format!(
            "limit {resource}: the hard limit {} is above {}, that of the service, and only root may raise it; ask for less",
            Shown(hard),
            Shown(own_hard)
        );
        return Err(Error::new(Code::Denied, message));
    }
    let soft = match wanted.soft {
        None => inherited.current.unwrap_or(u64::MAX).min(hard),
        Some(value) => {
            let soft = number(value);
            if soft > hard {
                let whose = match wanted.hard {
                    Some(_) => "",
                    None => ", that of the service",
                };
                return Err(out_of_range(format!(
                    "limit {resource}: the soft limit {} is above the hard limit {}{whose}; lower it, or raise the hard limit",
                    Shown(soft),
                    Shown(hard)
                )));
            }
            soft
        }
    };
    let value = |number| (number < u64::MAX).then_some(number);
    Ok(Rlimit {
        current: value(soft),
        maximum: value(hard),
    })
}

/// As the kernel has it: the largest number is no limit.
fn number(value: LimitValue) -> u64 {
    match value {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Number(number) => number,
    }
}

struct Shown(u64);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            u64::MAX => f.write_str("unlimited"),
            number => number.fmt(f),
        }
    }
}

fn check_nice(nice: i32, own: i32, is_root: bool) -> Result<(), Error> {
    if !NICE.contains(&nice) {
        return Err(out_of_range(format!(
            "the nice value {nice} is not in the range from {} to {}",
            NICE.start(),
            NICE.end()
        )));
    }
    if nice < own && !is_root {
        let message = format!(
            "the nice value {nice} is below {own}, that of the service, and only root may lower it; ask for {own} or more"
        );
        return Err(Error::new(Code::Denied, message));
    }
    Ok(())
}

fn umask(mask: u32) -> Result<Mode, Error> {
    match mask <= UMASK_MAX {
        true => Ok(Mode::from_raw_mode(mask)),
        false => Err(out_of_range(format!(
            "the umask {mask} is above {UMASK_MAX} (octal {UMASK_MAX:o}); JSON numbers are decimal"
        ))),
    }
}

pub(super) fn kernel_resource(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as Kernel;
    match resource {
        Resource::Cpu => Kernel::Cpu,
        Resource::Fsize => Kernel::Fsize,
        Resource::Data => Kernel::Data,
        Resource::Stack => Kernel::Stack,
        Resource::Core => Kernel::Core,
        Resource::Nproc => Kernel::Nproc,
        Resource::Nofile => Kernel::Nofile,
        Resource::Memlock => Kernel::Memlock,
        Resource::As => Kernel::As,
        Resource::Sigpending => Kernel::Sigpending,
        Resource::Msgqueue => Kernel::Msgqueue,
        Resource::Nice => Kernel::Nice,
        Resource::Rtprio => Kernel::Rtprio,
        Resource::Rttime => Kernel::Rttime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INHERITED: Rlimit = Rlimit {
        current: Some(100),
        maximum: Some(1000),
    };

    fn resolve(
        soft: Option<u64>,
        hard: Option<u64>,
        is_root: bool,
    ) -> Result<(Option<u64>, Option<u64>), Code> {
        let wanted = ResourceLimit {
            soft: soft.map(LimitValue::Number),
            hard: hard.map(LimitValue::Number),
        };
        limit(Resource::Nofile, wanted, INHERITED, is_root)
            .map(|limit| (limit.current, limit.maximum))
            .map_err(|error| error.code)
    }

    #[test]
    fn a_limit_that_is_not_given_is_inherited() {
        assert_eq!(resolve(None, None, false), Ok((Some(100), Some(1000))));
        assert_eq!(resolve(Some(7), None, false), Ok((Some(7), Some(1000))));
        assert_eq!(resolve(None, Some(500), false), Ok((Some(100), Some(500))));
        // The soft limit follows a hard limit below it.
        assert_eq!(resolve(None, Some(50), false), Ok((Some(50), Some(50))));
        assert_eq!(resolve(Some(0), Some(0), false), Ok((Some(0), Some(0))));
    }

    #[test]
    fn only_root_raises_a_hard_limit_and_a_soft_limit_never_exceeds_it() {
        let at_most = |hard| resolve(Some(1000), Some(hard), false);
        assert_eq!(at_most(1000), Ok((Some(1000), Some(1000))));
        assert_eq!(at_most(1001), Err(Code::Denied));
        assert_eq!(resolve(None, Some(u64::MAX), false), Err(Code::Denied));
        assert_eq!(resolve(Some(1001), None, false), Err(Code::OutOfRange));
        for is_root in [false, true] {
            let above = resolve(Some(501), Some(500), is_root);
            assert_eq!(above, Err(Code::OutOfRange));
            assert_eq!(resolve(Some(1001), None, is_root), Err(Code::OutOfRange));
        }
        let raised = resolve(Some(2000), Some(3000), true);
        assert_eq!(raised, Ok((Some(2000), Some(3000))));
        // The largest number means no limit to the kernel.
        let unlimited = resolve(Some(u64::MAX), Some(u64::MAX), true);
        assert_eq!(unlimited, Ok((None, None)));
    }

    #[test]
    fn nice_values_are_in_the_range_and_only_root_lowers_them() {
        let code = |nice, is_root| check_nice(nice, 5, is_root).map_err(|error| error.code);
        for is_root in [false, true] {
            assert_eq!(code(5, is_root), Ok(()));
            assert_eq!(code(19, is_root), Ok(()));
            assert_eq!(code(20, is_root), Err(Code::OutOfRange));
            assert_eq!(code(-21, is_root), Err(Code::OutOfRange));
        }
        assert_eq!(code(4, false), Err(Code::Denied));
        assert_eq!(code(4, true), Ok(()));
    }

    #[test]
    fn a_umask_has_the_nine_permission_bits() {
        assert_eq!(umask(0o777).ok().map(|mask| mask.bits()), Some(0o777));
        assert_eq!(umask(0).ok().map(|mask| mask.bits()), Some(0));
        let error = umask(0o1000).expect_err("it is refused");
        assert_eq!(error.code, Code::OutOfRange);
    }
}

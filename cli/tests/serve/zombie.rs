//! A zombie.

use std::fs;
use std::process::{Child, Command};

use crate::service::eventually;

/// A child that has ended and is not reaped. Each watch of it has a record at once.
pub(crate) struct Zombie(Child);

impl Zombie {
    pub(crate) fn new() -> Self {
        let mut child = Command::new("true").spawn().expect("it starts");
        let stat = format!("/proc/{}/stat", child.id());
        eventually("it has ended", || {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
        });
        let _ = child.stdin.take();
        Self(child)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Zombie {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

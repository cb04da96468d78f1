//! Tests of `exitring serve`, through its protocol.

mod attributes;
mod cgroup_restarts;
mod cgroups;
mod client_commands;
mod clock;
mod descriptors;
mod disk;
mod fuse;
mod kill;
mod limits;
mod model;
mod permissions;
mod protocol;
mod records;
mod restart;
mod service;
mod slow;
mod socket;
mod starting;
mod state_loss;
mod systemd;
mod test_group;
mod watches;
mod zombie;

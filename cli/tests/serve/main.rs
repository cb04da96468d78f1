//! `exitring serve`, as its clients see it.

mod clock;
mod descriptors;
mod disk;
mod gone;
mod guards;
mod kill;
mod model;
mod protocol;
mod records;
mod restart;
mod service;
mod slow;
mod socket;
mod starting;
mod systemd;

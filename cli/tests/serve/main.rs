//! `exitring serve`, as its clients see it.

mod descriptors;
mod disk;
mod guards;
mod kill;
mod model;
mod protocol;
mod records;
mod restart;
mod service;
mod slow;
mod starting;
mod systemd;

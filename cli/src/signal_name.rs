//! Names of signals.

/// A name to print after the number, as ` (SIGTERM)`. Empty for a signal without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    match known(signal) {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    }
}

/// `SIGTERM`, `SIGRTMIN+3`, or `signal 33`.
pub(crate) fn name_or_number(signal: i32) -> String {
    match known(signal) {
        Some(name) => name.into(),
        None if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signal) => {
            format!("SIGRTMIN+{}", signal - libc::SIGRTMIN())
        }
        None => format!("signal {signal}"),
    }
}

fn known(signal: i32) -> Option<&'static str> {
    match signal {
        libc::SIGPWR => Some("SIGPWR"),
        libc::SIGSTKFLT => Some("SIGSTKFLT"),
        _ => signal_hook::low_level::signal_name(signal),
    }
}

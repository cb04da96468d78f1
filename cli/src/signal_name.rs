//! Signals, by their names.

/// ` (SIGTERM)`, to stand behind the number; nothing for one without a name.
pub(crate) fn signal_name(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some(name) => format!(" ({name})"),
        None => String::new(),
    }
}

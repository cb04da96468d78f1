//! The notifier of the loom models, which have no kernel to poll an eventfd.

use loom::sync::{Condvar, Mutex};

/// Stands in for the eventfd: several notifications before a wait end one wait.
pub(crate) struct ModelNotifier {
    notified: Mutex<bool>,
    changed: Condvar,
}

impl Default for ModelNotifier {
    fn default() -> Self {
        Self {
            notified: Mutex::new(false),
            changed: Condvar::new(),
        }
    }
}

impl ModelNotifier {
    pub(crate) fn notify(&self) {
        *self.notified.lock().expect("no panic") = true;
        self.changed.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut notified = self.notified.lock().expect("no panic");
        while !*notified {
            notified = self.changed.wait(notified).expect("no panic");
        }
        *notified = false;
    }
}

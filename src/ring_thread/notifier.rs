//! The notifier that wakes the ring thread: an eventfd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) struct Notifier {
    eventfd: OwnedFd,
    /// A model waits here, because nothing polls the eventfd.
    #[cfg(all(test, exitring_loom))]
    model: super::model_notifier::ModelNotifier,
}

impl Notifier {
    pub(crate) fn new(eventfd: OwnedFd) -> Self {
        Self {
            eventfd,
            #[cfg(all(test, exitring_loom))]
            model: super::model_notifier::ModelNotifier::default(),
        }
    }

    #[cfg(not(all(test, exitring_loom)))]
    pub(crate) fn notify(&self) {
        crate::sys::signal_eventfd(&self.eventfd);
    }

    #[cfg(all(test, exitring_loom))]
    pub(crate) fn notify(&self) {
        self.model.notify();
    }

    #[cfg(all(test, exitring_loom))]
    pub(crate) fn wait(&self) {
        self.model.wait();
    }
}

impl AsFd for Notifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

//! What wakes the ring thread: an eventfd.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) struct Bell {
    eventfd: OwnedFd,
    /// In a model nobody polls the eventfd.
    #[cfg(all(test, exitring_loom))]
    model: crate::models::ModelBell,
}

impl Bell {
    pub(crate) fn new(eventfd: OwnedFd) -> Self {
        Self {
            eventfd,
            #[cfg(all(test, exitring_loom))]
            model: crate::models::ModelBell::default(),
        }
    }

    #[cfg(not(all(test, exitring_loom)))]
    pub(crate) fn ring(&self) {
        crate::sys::ring_eventfd(&self.eventfd);
    }

    #[cfg(all(test, exitring_loom))]
    pub(crate) fn ring(&self) {
        self.model.ring();
    }

    #[cfg(all(test, exitring_loom))]
    pub(crate) fn wait(&self) {
        self.model.wait();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }
}

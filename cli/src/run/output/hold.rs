//! The standard streams while `--watch` has the terminal.

use std::io;

use rustix::termios::isatty;

use super::held_output::HeldOutput;
use super::std_streams::StdStreams;
use crate::run::stream_id::STDOUT;

impl StdStreams {
    /// Holds back what would go to the terminal.
    pub(crate) fn hold(&mut self) -> io::Result<()> {
        let held = HeldOutput::new(isatty(rustix::stdio::stdout()))?;
        self.held = Some(held);
        Ok(())
    }

    /// Why output that waits had to be discarded, once.
    pub(crate) fn take_hold_failure(&mut self) -> Option<io::Error> {
        self.held.as_mut()?.take_failure()
    }

    /// Starts to write what was held.
    pub(crate) fn begin_release(&mut self) {
        self.releasing = self.held.take();
        if let Some(held) = &mut self.releasing {
            held.rewind();
        }
    }

    /// Moves a part of what was held to the buffers. Returns whether there may be more.
    pub(crate) fn release_next(&mut self) -> bool {
        let next = self
            .releasing
            .as_mut()
            .map(|held| (held.holds_stdout, held.next()));
        let Some((holds_stdout, Some(bytes))) = next else {
            return false;
        };
        let stream = if holds_stdout { STDOUT } else { STDOUT + 1 };
        self.buffer_for(stream).extend(bytes);
        true
    }

    /// Discards the rest of what was held.
    pub(crate) fn end_release(&mut self) {
        self.releasing = None;
    }
}

//! The terminal of the view: taken at the start, and returned as it was on every way out.

use std::io::{self, Write, stderr};
use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// The alternate screen, without a cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";

/// The modes to restore, while the screen is taken.
static TAKEN: Mutex<Option<Termios>> = Mutex::new(None);
static PANIC_HOOK: Once = Once::new();

/// Takes the screen. Keys are not echoed; Ctrl-C and Ctrl-Z are signals as before. The caller is in
/// the foreground of the terminal.
pub(super) fn enter() -> io::Result<()> {
    PANIC_HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            leave();
            before(panic);
        }));
    });
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let modes = tcgetattr(stderr())?;
    let mut quiet = modes.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stderr(), OptionalActions::Now, &quiet)?;
    *taken = Some(modes);
    stderr().write_all(ENTER)
}

/// Returns the screen, if it is taken.
pub(super) fn leave() {
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(modes) = taken.take() {
        // There is nowhere left to report an error.
        let _ = stderr().write_all(LEAVE);
        let _ = tcsetattr(stderr(), OptionalActions::Now, &modes);
    }
}

/// Whether the screen is taken.
pub(super) fn is_taken() -> bool {
    TAKEN
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .is_some()
}

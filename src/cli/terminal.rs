use std::fs::File;

use rustix::{
    process::getpgrp,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr},
};

/// The terminal as it was when the command began.
///
/// While a PIN is asked for, what is typed does not show. A command whose deadline passes meanwhile leaves the asking
/// thread behind, and nobody else would let the person see again what they type.
pub(super) struct Terminal(Option<(File, Termios)>);

impl Terminal {
    /// The terminal that a PIN would be asked for at, if there is one.
    pub(super) fn as_found() -> Self {
        let terminal = File::options().read(true).write(true).open("/dev/tty");
        Self(terminal.ok().and_then(|terminal| {
            let modes = tcgetattr(&terminal).ok()?;
            Some((terminal, modes))
        }))
    }

    /// Shows again what is typed, if it showed before. In the background the terminal is somebody else's.
    pub(super) fn restore(self) {
        let Some((terminal, found)) = self.0 else { return };
        let shows = |modes: &Termios| modes.local_modes.contains(LocalModes::ECHO);
        let is_ours = tcgetpgrp(&terminal).is_ok_and(|foreground| foreground == getpgrp());
        if is_ours && shows(&found) && tcgetattr(&terminal).is_ok_and(|now| !shows(&now)) {
            let _ = tcsetattr(&terminal, OptionalActions::Now, &found);
        }
    }
}

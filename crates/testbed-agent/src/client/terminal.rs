//! The terminal that a program on a machine is to have.

use rustix::fd::BorrowedFd;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Where no terminal tells its size: rows and columns.
const SIZE: (u16, u16) = (24, 80);

/// Hands what is typed over as it is, until it is dropped.
pub(super) struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Raw<'a> {
    /// None if the input is no terminal.
    pub(super) fn new(terminal: BorrowedFd<'a>) -> Option<Raw<'a>> {
        let before = tcgetattr(terminal).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(terminal, OptionalActions::Drain, &raw).ok()?;
        Some(Raw { terminal, before })
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Rows and columns of the first of these that is a terminal.
pub(super) fn size(streams: &[BorrowedFd<'_>]) -> (u16, u16) {
    let terminal = streams.iter().find(|stream| isatty(**stream));
    let size = terminal.and_then(|terminal| tcgetwinsize(*terminal).ok());
    // One that does not know says 0.
    size.map(|size| (size.ws_row, size.ws_col)).filter(|(r, c)| *r > 0 && *c > 0).unwrap_or(SIZE)
}

//! What can be done with the screen and the keyboard of a machine that has them.

use super::guest::Hypervisor;
use super::{ANSWER, Condition, Machine};
use rustix::fd::OwnedFd;
use testbed_agent::keys::{Chord, Unknown};
use testbed_agent::{Doing as _, Fault, FaultKind};
use testbed_sys::fdpass;

impl Machine {
    /// What is on its screen, as a PNG.
    ///
    /// # Errors
    /// [`FaultKind::Unsupported`] for a machine without a screen, [`FaultKind::State`] for one that has stopped.
    pub fn screenshot(&self) -> Result<Vec<u8>, Fault> {
        self.at_screen("take a picture of the screen", Hypervisor::screenshot)
    }

    /// Types a text on its keyboard, which is one of the United States. Returns when the last key was let go.
    ///
    /// # Errors
    /// [`FaultKind::Invalid`] when no key types a character; else as for [`Machine::screenshot`].
    pub fn type_text(&self, text: &str) -> Result<(), Fault> {
        let chords: Result<Vec<Chord>, Unknown> = text.chars().map(Chord::of).collect();
        let chords = chords.map_err(|unknown| no_key(&unknown).on(self.name()))?;
        chords.iter().try_for_each(|chord| self.press(chord))
    }

    /// Presses keys of its keyboard together, and lets them go.
    ///
    /// # Errors
    /// As for [`Machine::screenshot`]; [`FaultKind::State`] for one that is paused, too.
    pub fn press(&self, chord: &Chord) -> Result<(), Fault> {
        const DOING: &str = "type on the keyboard";
        if self.condition() == Condition::Paused {
            return Err(self.fault(FaultKind::State, format!("{DOING} of a machine that is paused")));
        }
        self.at_screen(DOING, |hypervisor| hypervisor.press(chord))
    }

    /// A connection that speaks VNC (RFC 6143): the live screen, for as long as it is open.
    ///
    /// # Errors
    /// As for [`Machine::screenshot`].
    pub fn view(&self) -> Result<OwnedFd, Fault> {
        let (ours, theirs) = fdpass::stream_pair().doing("make a socket")?;
        self.at_screen("see the screen", |hypervisor| hypervisor.show(theirs))?;
        Ok(ours)
    }

    fn at_screen<T>(
        &self,
        doing: &str,
        act: impl FnOnce(&mut Hypervisor) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let core = self.core();
        let missing = |of: &str| {
            let fault = self.fault(FaultKind::Unsupported, format!("{doing} of {of}"));
            fault
                .hint("`screen = true` in its file gives it a screen and a keyboard, and a kernel of its own")
        };
        let guest = core.guest.as_ref().ok_or_else(|| missing("a machine with the host's kernel"))?;
        if !guest.has_screen() {
            return Err(missing("a machine that has none"));
        }
        if self.condition() == Condition::Stopped {
            return Err(self.fault(FaultKind::State, format!("{doing} of a machine that has stopped")));
        }
        self.wait_started(ANSWER)?;
        guest
            .hypervisor()
            .and_then(|mut hypervisor| act(&mut hypervisor))
            .map_err(|fault| fault.on(self.name()))
    }
}

/// What is asked of a keyboard that has no such key.
pub(crate) fn no_key(unknown: &Unknown) -> Fault {
    Fault::new(FaultKind::Invalid, unknown.to_string()).hint(unknown.hint())
}

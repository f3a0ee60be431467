//! Standard input on its way back to the programs that a stream is combined of.

use super::feed::{Noise, Packets, Take};
use super::input::{Input, Source, read};
use super::output::Out;
use crate::failure::Failure;
use std::cell::RefCell;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ChildStdin;
use testbed_subunit::EventRef;
use testbed_subunit::stream::Code;
use testbed_subunit::v2::{Forwarder, Packet, Patience};

/// The file that input comes as.
const STDIN: &str = "stdin";

/// The standard inputs of programs, by their route codes.
pub(super) struct Leaves {
    open: Vec<(Code, ChildStdin)>,
    forwarder: Forwarder,
}

impl Leaves {
    pub(super) fn new(open: Vec<(Code, ChildStdin)>) -> Leaves {
        Leaves { open, forwarder: Forwarder::new() }
    }

    /// Passes standard input on from a thread of its own, so that a program which does not read holds up no output. All
    /// inputs end with it.
    ///
    /// # Errors
    /// When there is no standard input, or no thread.
    pub(super) fn feed(self) -> Result<(), Failure> {
        let source = Source::open(Path::new("-"))?;
        let feed = move || {
            if let Err(failure) = self.pass(source) {
                failure.tell();
            }
        };
        let thread = std::thread::Builder::new().name("testbed-stdin".into()).spawn(feed);
        thread.map(drop).map_err(|e| Failure::io("start a thread", e))
    }

    fn pass(self, source: Source) -> Result<(), Failure> {
        let (leaves, out) = (RefCell::new(self), Out::stderr()?);
        let feed = Packets::new(source.is_live(), Patience::default(), Noise::Drop, &leaves, out);
        read(vec![Input { source, feed }], false, &mut || Ok(None))
    }
}

impl Take for Leaves {
    /// At the end of its route, a file's bytes go to the program as they are; on the way, its packet goes on.
    fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let Some(file) = packet.event.file().filter(|file| file.name == STDIN) else { return Ok(()) };
        let Some(route) = packet.event.route() else { return Ok(()) };
        let found = self.open.iter().enumerate().find_map(|(at, (code, _))| Some((at, code.strip(route)?)));
        let Some((at, rest)) = found else { return Ok(()) };
        let Some((code, stdin)) = self.open.get_mut(at) else { return Ok(()) };
        let written = match rest {
            None => stdin.write_all(file.bytes),
            Some(_) => match self.forwarder.strip(packet, code) {
                Some(Ok(pieces)) => pieces.slices().into_iter().try_for_each(|slice| stdin.write_all(slice)),
                _ => Ok(()),
            },
        };
        // A program that has ended, or wants no more, is none of the others' business.
        if written.is_err() || (rest.is_none() && packet.event.eof()) {
            self.open.remove(at);
        }
        Ok(())
    }

    fn other(&mut self, _: EventRef<'_>) -> io::Result<()> {
        Ok(())
    }
}

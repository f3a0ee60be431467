//! The commands that speak to a testbed that lives. Their words are the same on the host and inside a machine, so
//! they are taken apart, explained and carried out in one place: [`testbed_agent::client`].

use super::output::print;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::keepers;
use crate::place::Place;
use rustix::fd::AsFd as _;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use testbed::control::Client;
use testbed::{Fault, FaultKind};
use testbed_agent::client::{self, Call, Connection, Io, Parsed, status};

/// What follows the command's first word.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// `--help` says what.
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

impl Arguments {
    pub(crate) fn run(self, verb: &str, place: &Place) -> Result<Exit, Failure> {
        let words: Vec<String> = std::iter::once(verb.to_owned()).chain(self.words).collect();
        speak(&words, place)
    }
}

/// Does what the words say.
pub(crate) fn speak(words: &[String], place: &Place) -> Result<Exit, Failure> {
    let verb = words.first().map_or("", String::as_str);
    let ended = match client::parse(words) {
        Ok(Parsed::Help(text)) => print(&text).map(|()| 0),
        Ok(Parsed::Version) => Ok(status::WRONG),
        Ok(Parsed::Call(call)) => keepers::socket(place).and_then(|socket| carry_out(&call, &socket)),
        Err(wrong) => Err(match wrong.hint {
            Some(hint) => Failure::call(wrong.message).hint(hint),
            None => Failure::call(wrong.message),
        }),
    };
    match ended {
        Ok(code) => Ok(Exit::Inner(code)),
        // The status is the program's, so it says nothing of what kept it from running.
        Err(failure) if verb == "exec" => {
            failure.tell();
            Ok(Exit::Inner(status::NOT_RUN))
        }
        Err(failure) => Err(failure),
    }
}

fn carry_out(call: &Call, socket: &Path) -> Result<u8, Failure> {
    let names = match call {
        Call::Probe { .. } => names(socket)?,
        _ => Vec::new(),
    };
    let gone = |e: std::io::Error| {
        Fault::system("reach the keeper at", &e)
            .at(socket.to_string_lossy())
            .hint("the testbed may have ended")
    };
    let mut connection = Connection::new(UnixStream::connect(socket).map_err(gone)?)?;
    let (input, output, error) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
    let failed = |e| Failure::io("wait for signals", e);
    let signals = if call.takes_signals() { Some(client::signals().map_err(failed)?) } else { None };
    let signals = signals.as_ref().map(|fd| fd.as_fd());
    let term = std::env::var("TERM").unwrap_or_default();
    let term = if term.is_empty() { "xterm" } else { &term };
    let io = Io { input, output, error, names: &names, signals, term };
    client::run(&mut connection, call, &io).map_err(|fault| match fault.kind {
        FaultKind::Invalid => {
            let failure = Failure::call(fault.to_string());
            fault.hint.into_iter().fold(failure, Failure::hint)
        }
        _ => fault.into(),
    })
}

/// The names of machines and their addresses.
fn names(socket: &Path) -> Result<Vec<(String, IpAddr)>, Failure> {
    let machines = Client::connect(socket)?.status()?.machines;
    let names = machines.into_iter().flat_map(|machine| {
        let name = machine.name;
        let interfaces = machine.interfaces.into_iter();
        interfaces.flat_map(move |interface| {
            let names = [name.clone(), format!("{name}.{}", interface.network)];
            let addresses = interface.addresses.into_iter();
            addresses.flat_map(move |address| names.clone().map(|name| (name, address))).collect::<Vec<_>>()
        })
    });
    Ok(names.collect())
}

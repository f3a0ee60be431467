//! The command `testbed` in a machine that may drive its testbed.

use crate::init::CONTROL_SOCKET;
use rustix::fd::{AsFd as _, BorrowedFd};
use std::ffi::OsString;
use std::os::unix::net::UnixStream;
use testbed_agent::client::{self, Call, Connection, Io, Parsed, status};
use testbed_agent::{Doing as _, Fault, FaultKind};

/// The terminal that programs are told they have: what nearly all terminals understand.
const TERM: &str = "xterm";

/// Does what the arguments say; gives the exit status.
pub(crate) fn main(arguments: &[OsString]) -> u8 {
    let (output, error) = (rustix::stdio::stdout(), rustix::stdio::stderr());
    let texts: Option<Vec<String>> =
        arguments.iter().map(|argument| argument.to_str().map(str::to_owned)).collect();
    let Some(texts) = texts else {
        write(error, "testbed: an argument is not UTF-8\n");
        return status::WRONG;
    };
    let call = match client::parse(&texts) {
        Ok(Parsed::Help(text)) => {
            write(output, &text);
            return status::DONE;
        }
        Ok(Parsed::Version) => {
            write(output, concat!("testbed ", env!("CARGO_PKG_VERSION"), "\n"));
            return status::DONE;
        }
        Ok(Parsed::Call(call)) => call,
        Err(wrong) => {
            tell(error, &wrong.message, wrong.hint.as_deref());
            // What is no program has no status of its own.
            return if texts.first().is_some_and(|word| word == "exec") {
                status::NOT_RUN
            } else {
                status::WRONG
            };
        }
    };
    match carry_out(&call) {
        Ok(code) => code,
        Err(fault) => {
            tell(error, &fault.to_string(), fault.hint.as_deref());
            match call {
                Call::Exec(_) => status::NOT_RUN,
                _ if fault.kind == FaultKind::Invalid => status::WRONG,
                _ => status::FAILED,
            }
        }
    }
}

fn carry_out(call: &Call) -> Result<u8, Fault> {
    let socket = UnixStream::connect(CONTROL_SOCKET).doing_to("reach the keeper by", CONTROL_SOCKET);
    let socket = socket.map_err(|fault| match fault.kind {
        FaultKind::NotFound => fault.hint("this machine may not drive its testbed: give it `control = true`"),
        FaultKind::Denied => fault.hint("only root may drive the testbed"),
        _ => fault,
    })?;
    let names =
        std::fs::read_to_string("/etc/hosts").map_or_else(|_| Vec::new(), |text| client::names_of(&text));
    let mut connection = Connection::new(socket)?;
    let signals =
        if call.takes_signals() { Some(client::signals().doing("wait for signals")?) } else { None };
    let io = Io {
        signals: signals.as_ref().map(|fd| fd.as_fd()),
        term: TERM,
        input: rustix::stdio::stdin(),
        output: rustix::stdio::stdout(),
        error: rustix::stdio::stderr(),
        names: &names,
    };
    client::run(&mut connection, call, &io)
}

fn tell(error: BorrowedFd<'_>, message: &str, hint: Option<&str>) {
    let hint = hint.map_or(String::new(), |hint| format!("hint: {}\n", client::plain(hint)));
    write(error, &format!("testbed: {message}\n{hint}"));
}

/// Writes for people; who does not listen misses it.
fn write(to: BorrowedFd<'_>, text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(length) => rest = &rest[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

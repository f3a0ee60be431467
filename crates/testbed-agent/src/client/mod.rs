//! The command `testbed` where it speaks to a keeper: its words, and what comes of them.
//!
//! In a machine with `control = true`, the agent's own binary is that command; on the host the same words do the same.
//! [`parse`] takes the words apart; [`run`] carries a [`Call`] out by a [`Connection`] to the keeper.
//!
//! | status | meaning |
//! |---|---|
//! | 0 | done; it holds; an answer came |
//! | 1 | what was tested is otherwise: no answer, refused, not in time, fewer than asked for |
//! | 2 | the call is wrong |
//! | 3 | the testbed failed |
//!
//! `exec` ends as the program did, with 124 if its deadline had passed, or with 125 if it could not be run. It passes
//! signals on; a capture ends by them as by its deadline.

mod address;
mod arguments;
mod connection;
mod console;
mod copy;
mod exec;
mod files;
mod json;
mod probe;
mod run;
mod screen;
mod show;
mod signal;
mod streams;
mod table;
mod terminal;
mod variables;
mod words;

pub use address::Address;
pub use connection::Connection;
pub use console::Console;
pub use files::{FileAct, Files};
pub use run::{Io, names_of, run, signals};
pub use screen::{Screenshot, Typing};
pub use show::plain;
pub use variables::{VariableAct, Variables};
pub use words::{Call, Capture, Exec, Host, Node, Parsed, Place, Probe, Wait, parse};

/// A call that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Wrong {
        Wrong { message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Wrong {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }
}

/// How a call ends.
pub mod status {
    /// Done.
    pub const DONE: u8 = 0;
    /// What was tested is otherwise.
    pub const OTHERWISE: u8 = 1;
    /// The call is wrong.
    pub const WRONG: u8 = 2;
    /// The testbed failed.
    pub const FAILED: u8 = 3;
    /// The deadline of a program had passed.
    pub const LATE: u8 = 124;
    /// A program could not be run.
    pub const NOT_RUN: u8 = 125;
}

#[cfg(test)]
mod tests;

//! The static program that makes machines and is process 1 of each.
//!
//! One file, three roles: a keeper runs it as its *launcher*; the launcher's forks go on as *init and agent* of a
//! machine, without executing anything; and in a machine that may control its testbed it is the *client*.

mod init;
mod launcher;
mod tools;

use std::process::ExitCode;

fn main() -> ExitCode {
    match launcher::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

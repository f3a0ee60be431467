//! The static program that makes machines and is process 1 of each.
//!
//! One file, five roles: a keeper runs it as its *launcher*; the launcher's forks go on as *init and agent* of a
//! machine, without executing anything; the kernel of a machine that has one of its own runs it as `init`, and again to
//! have a module loaded; and in a machine that may control its testbed it is the *client*, the command `testbed`.

mod command;
mod init;
mod launcher;
mod tools;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    if Path::new(&name).file_name().is_some_and(|name| name == "testbed") {
        return command::main(&arguments.collect::<Vec<OsString>>()).into();
    }
    if Path::new(&name) == Path::new("/init") {
        init::live_as_guest();
    }
    if name.to_str().is_some_and(init::is_own_program) {
        let loaded = init::load_for_kernel(&arguments.collect::<Vec<OsString>>());
        return loaded.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let open_files = arguments.nth(1).and_then(|limit| limit.to_str()?.parse().ok());
    match launcher::run(open_files) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

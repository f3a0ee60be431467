//! How fast testbed is, against floors that run beside it: the least that the kernel makes anybody do.
//!
//! `cargo run --release -p testbed-bench [NAME…]`; `--rounds N` for more rounds than the few of a quick look. What the
//! figures mean: `docs/performance.md`.

mod bench;
mod calm;
mod floor;
mod sample;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

/// What goes wrong here is told and ends the bench.
type Outcome<T> = Result<T, Box<dyn Error>>;

const USAGE: &str =
    "testbed-bench [--rounds N] [NAME…]: one five run copies thousand exec output traffic kernels capsules\n";

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = if arguments.first().is_some_and(|a| a == floor::ROLE) {
        floor::play(&arguments.split_off(1))
    } else {
        choose(arguments)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "testbed-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn choose(arguments: Vec<String>) -> Outcome<()> {
    let mut rounds = None;
    let mut names = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = Some(arguments.next().ok_or(USAGE)?.parse()?),
            "-h" | "--help" => {
                std::io::stdout().write_all(USAGE.as_bytes())?;
                return Ok(());
            }
            _ => names.push(argument),
        }
    }
    bench::run(&names, rounds)
}

/// Prints a line.
fn say(line: &str) {
    // Nobody may read it any more.
    let _ = writeln!(std::io::stdout(), "{line}");
}

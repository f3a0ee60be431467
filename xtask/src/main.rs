//! Chores of the repository: `cargo run -p xtask -- ci`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a chore talks to whoever runs it")]

mod ci;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo run -p xtask -- CHORE

  ci [PHASE...]   All that has to pass before a change is merged: fmt, tidy, clippy, deny, fuzz, test
  tidy            The invariants of ARCHITECTURE.md that can be checked
";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let passed = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ci", ref phases @ ..] if phases.iter().all(|phase| ci::is_phase(phase)) => ci::run(root, phases),
        ["tidy"] => tidy::run(root),
        ["-h" | "--help" | "help"] => {
            print!("{USAGE}");
            true
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! All checks, one after another, with their times.

use crate::tidy;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long each fuzz target runs, and one input of it at most, in seconds: long enough to replay its corpus and to notice
/// a target that rotted.
const FUZZ_SECONDS: u32 = 10;

enum Outcome {
    Passed,
    Failed,
    /// Why it could not run here.
    Skipped(&'static str),
}

type Phase = fn(&Path) -> Outcome;

const PHASES: [(&str, Phase); 6] = [
    ("fmt", |root| cargo(root, &["fmt", "--all", "--check"])),
    ("tidy", |root| passed(tidy::run(root))),
    ("clippy", |root| cargo(root, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])),
    ("deny", deny),
    ("fuzz", fuzz),
    // Last, so that the closing lines of the tests end the log.
    ("test", |root| cargo(root, &["test", "--workspace", "--no-fail-fast"])),
];

/// A phase goes by this name.
pub(crate) fn is_phase(name: &str) -> bool {
    PHASES.iter().any(|(phase, _)| *phase == name)
}

/// Runs the phases that are named, or all if none is; each whatever the others say. Prints what each took, and is true if
/// none failed.
pub(crate) fn run(root: &Path, names: &[&str]) -> bool {
    let mut took: Vec<(&str, Duration, Outcome)> = Vec::new();
    for (name, phase) in PHASES.iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = phase(root);
        took.push((name, start.elapsed(), outcome));
    }
    println!("\n{:<8}{:>9}", "phase", "seconds");
    for (name, time, outcome) in &took {
        let word = match outcome {
            Outcome::Passed => "passed".to_owned(),
            Outcome::Failed => "FAILED".to_owned(),
            Outcome::Skipped(why) => format!("skipped: {why}"),
        };
        println!("{name:<8}{:>9.1}  {word}", time.as_secs_f64());
    }
    !took.iter().any(|(_, _, outcome)| matches!(outcome, Outcome::Failed))
}

fn passed(well: bool) -> Outcome {
    if well { Outcome::Passed } else { Outcome::Failed }
}

/// The cargo that this program was started by, where it was.
fn cargo_command(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

fn cargo(root: &Path, arguments: &[&str]) -> Outcome {
    println!("$ cargo {}", arguments.join(" "));
    match cargo_command(root).args(arguments).status() {
        Ok(status) => passed(status.success()),
        Err(error) => {
            eprintln!("cannot run cargo: {error}");
            Outcome::Failed
        }
    }
}

fn deny(root: &Path) -> Outcome {
    if !answers(cargo_command(root).args(["deny", "--version"])) {
        return Outcome::Skipped("cargo-deny is not installed");
    }
    // Advisories need a database from the network; everything else is decided by what is in the repository.
    cargo(root, &["deny", "check", "bans", "licenses", "sources"])
}

fn fuzz(root: &Path) -> Outcome {
    // `+nightly` is understood by rustup's cargo only, not by the one that it starts.
    let nightly = || {
        let mut command = Command::new("cargo");
        command.current_dir(root).args(["+nightly", "fuzz"]).env_remove("RUSTUP_TOOLCHAIN");
        command
    };
    if !answers(nightly().arg("--version")) {
        return Outcome::Skipped("cargo-fuzz or a nightly toolchain is not installed");
    }
    let listed = match nightly().arg("list").output() {
        Ok(output) if output.status.success() => output,
        _ => return Outcome::Failed,
    };
    let targets = String::from_utf8_lossy(&listed.stdout);
    let limits = [format!("-max_total_time={FUZZ_SECONDS}"), format!("-timeout={FUZZ_SECONDS}")];
    for target in targets.split_whitespace() {
        println!("$ cargo +nightly fuzz run {target} -- {}", limits.join(" "));
        let seeds = format!("fuzz/seeds/{target}");
        let corpus = format!("fuzz/corpus/{target}");
        let status = nightly().args(["run", target, &corpus, &seeds, "--"]).args(&limits).status();
        if !status.is_ok_and(|s| s.success()) {
            return Outcome::Failed;
        }
    }
    Outcome::Passed
}

fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

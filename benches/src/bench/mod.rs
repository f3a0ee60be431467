//! The benches: ours and the floor by turns.

mod capsules;
mod commands;
mod copies;
mod kernels;
mod machines;
mod thousand;
mod traffic;

use crate::floor::Floor;
use crate::sample::Pair;
use crate::{Outcome, calm};
use std::sync::Arc;
use std::time::Duration;
use testbed::bed::{Bed, HostOnly, Options};
use testbed::{Engine, spec};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);
/// Between rounds with several networks: the kernel takes network namespaces down behind our back.
const GAP: Duration = Duration::from_millis(300);
/// Before rounds that take a few milliseconds.
const BREATH: Duration = Duration::from_millis(20);

type Bench = (&'static str, usize, fn(usize) -> Outcome<()>);

/// The name of each, how many rounds a quick look takes, and what it does.
const ALL: &[Bench] = &[
    ("one", 200, machines::one),
    ("five", 20, machines::five),
    ("run", 10, machines::whole_run),
    ("copies", 500, copies::copies),
    ("thousand", 3, thousand::thousand),
    ("exec", 1000, commands::exec),
    ("output", 5, commands::output),
    ("traffic", 5, traffic::traffic),
    ("kernels", 10, kernels::kernels),
    ("capsules", 10, capsules::capsules),
];

pub(crate) fn run(names: &[String], rounds: Option<usize>) -> Outcome<()> {
    let known = |name: &String| ALL.iter().any(|(n, ..)| n == name);
    if let Some(unknown) = names.iter().find(|n| !known(n)) {
        return Err(format!("no bench `{unknown}`; {}", crate::USAGE).into());
    }
    let load = std::fs::read_to_string("/proc/loadavg")?;
    crate::say(&format!("load of this host: {}", load.trim()));
    for (name, usual, bench) in ALL {
        if names.is_empty() || names.iter().any(|n| n == name) {
            bench(rounds.unwrap_or(*usual))?;
        }
    }
    Ok(())
}

/// Rounds of ours and of a floor by turns, each after a quiet moment. The first two do not count.
fn by_turns(rounds: usize, floor: &mut Floor, mut ours: impl FnMut() -> Outcome<Duration>) -> Outcome<Pair> {
    let mut pair = Pair::default();
    for round in 0..rounds + 2 {
        calm::wait(GAP)?;
        let floor = floor.round()?;
        calm::wait(GAP)?;
        let ours = ours()?;
        if round >= 2 {
            pair.floor.add(floor);
            pair.ours.add(ours);
        }
    }
    Ok(pair)
}

fn engine() -> Outcome<Engine> {
    testbed::host::raise_open_files()?;
    testbed::host::sweep()?;
    Ok(testbed::host::engine()?)
}

fn checked(text: &str) -> Outcome<Arc<spec::Testbed>> {
    let (testbed, problems) = spec::check(text, "testbed.toml", &spec::HostFiles::new("/")?);
    testbed.map(Arc::new).ok_or_else(|| problems.to_string().into())
}

fn make(engine: &Engine, spec: &Arc<spec::Testbed>) -> Outcome<Bed> {
    Ok(Bed::make(engine, spec, &HostOnly, &Options::default())?)
}

/// Runs `true` in each machine of a copy, all at once, and kills the copy.
fn use_up(bed: &Bed) -> Outcome<()> {
    let started: Result<Vec<_>, _> = bed.machines().map(|m| m.command(["true"]).start()).collect();
    for mut running in started? {
        if !running.wait(Some(LONG))?.0.success() {
            return Err("`true` failed".into());
        }
    }
    Ok(bed.kill(LONG)?)
}

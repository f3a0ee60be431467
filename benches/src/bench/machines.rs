//! One machine, five on three networks, and the whole command.

use super::{BREATH, LONG, by_turns, checked, engine, make, use_up};
use crate::floor::Floor;
use crate::sample::{Pair, Sample, show};
use crate::{Outcome, calm, say};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;
use testbed::Engine;
use testbed_agent::launch::{Limits, Machine, Root, Upper};

/// The talk's story: two sites behind gateways, and who manages the network between.
pub(super) const FIVE: &str = r#"
    [networks]
    net1 = { subnet = "10.1.0.0/24" }
    middle = { subnet = "192.0.2.0/24" }
    net2 = { subnet = "10.2.0.0/24" }
    [machines.client1]
    interfaces = { net1 = "10.1.0.10" }
    [machines.gw1]
    interfaces = { net1 = "10.1.0.1", middle = "192.0.2.11" }
    [machines.gw2]
    interfaces = { net2 = "10.2.0.1", middle = "192.0.2.12" }
    [machines.client2]
    interfaces = { net2 = "10.2.0.10" }
    [machines.cm]
    interfaces = { middle = "192.0.2.100" }
"#;

fn lone(limits: Limits) -> Machine {
    let root = Root { layers: Vec::new(), host: true };
    Machine { limits, ..Machine::new("m", root, Upper::Memory(256 << 20)) }
}

/// One machine: made, `true`, destroyed.
pub(crate) fn one(rounds: usize) -> Outcome<()> {
    let engine = engine()?;
    let mut floor = Floor::start(&["one"])?;
    let limited = Limits { memory: Some(512 << 20), cpu_milli: Some(1000), pids: Some(200) };
    for (name, limits, bar) in
        [("one machine", Limits::default(), 1.75), ("one machine, limited", limited, 2.0)]
    {
        let spec = lone(limits);
        let mut pair = Pair::default();
        let mut owed = Sample::default();
        for round in 0..rounds + 10 {
            calm::wait(BREATH)?;
            let floor = floor.round()?;
            let begun = Instant::now();
            one_life(&engine, &spec)?;
            let ours = begun.elapsed();
            // The launcher answers only after it has removed the machine's cgroups.
            engine.settle()?;
            if round >= 10 {
                pair.floor.add(floor);
                pair.ours.add(ours);
                owed.add(begun.elapsed() - ours);
            }
        }
        pair.tell(name, bar);
        say(&format!("{name:<22} owed   cgroup folders, gone after {} more (median)", show(owed.median())));
    }
    Ok(())
}

fn one_life(engine: &Engine, spec: &Machine) -> Outcome<()> {
    let machine = engine.machine("m", spec.clone())?;
    if !machine.command(["true"]).status()?.success() {
        return Err("`true` failed".into());
    }
    Ok(machine.kill(LONG)?)
}

/// Five machines on three networks: made, `true` in each, destroyed.
pub(crate) fn five(rounds: usize) -> Outcome<()> {
    let engine = engine()?;
    let spec = checked(FIVE)?;
    let mut owed = Sample::default();
    let pair = by_turns(rounds, &mut Floor::start(&["five"])?, || {
        let begun = Instant::now();
        let bed = make(&engine, &spec)?;
        use_up(&bed)?;
        let ours = begun.elapsed();
        drop(bed);
        engine.settle()?;
        owed.add(begun.elapsed() - ours);
        Ok(ours)
    })?;
    pair.tell("five machines", 1.6);
    say(&format!(
        "five machines          owed   cgroup folders and the fabric, gone after {} more (median)",
        show(owed.median())
    ));
    Ok(())
}

/// The command: `testbed run` on five machines with five tests that share a copy.
pub(crate) fn whole_run(rounds: usize) -> Outcome<()> {
    let command = built_command()?;
    let folder = std::env::temp_dir().join(format!("testbed-bench-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let result = time_runs(&command, &folder, rounds);
    std::fs::remove_dir_all(&folder)?;
    result?.tell("testbed run, five", 3.2);
    Ok(())
}

fn time_runs(command: &PathBuf, folder: &PathBuf, rounds: usize) -> Outcome<Pair> {
    let mut text = FIVE.to_owned();
    for machine in ["client1", "gw1", "gw2", "client2", "cm"] {
        text.push_str(&format!(
            "\n[[tests]]\nname = \"{machine}\"\non = \"{machine}\"\nrun = \"true\"\ngroup = \"five\"\n"
        ));
    }
    std::fs::write(folder.join("testbed.toml"), text)?;
    by_turns(rounds, &mut Floor::start(&["five"])?, || {
        let begun = Instant::now();
        let output = Command::new(command)
            .args(["run", "."])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()?;
        let took = begun.elapsed();
        if !output.status.success() {
            return Err(format!("testbed run: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(took)
    })
}

/// The command as it stands in the working copy.
fn built_command() -> Outcome<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built =
        Command::new(cargo).args(["build", "--quiet", "--release", "--package", "testbed-cli"]).status()?;
    if !built.success() {
        return Err("testbed-cli could not be built".into());
    }
    let beside = std::env::current_exe()?;
    Ok(beside.with_file_name("testbed"))
}

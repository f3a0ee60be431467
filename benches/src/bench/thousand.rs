//! A thousand machines on one network.

use super::{GAP, LONG, checked, engine, make};
use crate::floor::Floor;
use crate::sample::{Pair, verdict};
use crate::{Outcome, calm, say};
use std::fs;
use std::time::Instant;
use testbed::Bed;

const COUNT: usize = 1000;
/// Bars for each machine, in kB: the share of memory of its process 1, and the kernel's.
const SHARE: f64 = 250.0;
const KERNEL: f64 = 500.0;

pub(crate) fn thousand(rounds: usize) -> Outcome<()> {
    let engine = engine()?;
    let spec = checked(&format!(
        "[networks]\nlan = {{ subnet = \"10.1.0.0/16\" }}\n[machines.m]\ncount = {COUNT}\ninterfaces = {{ lan = {{}} }}\n"
    ))?;
    let mut floor = Floor::start(&["flat", &COUNT.to_string()])?;
    let mut pair = Pair::default();
    let mut memory = (0.0, 0.0);
    for round in 0..=rounds {
        calm::wait(GAP * 10)?;
        let floor = floor.round()?;
        calm::wait(GAP * 10)?;
        let before = kernel_memory()?;
        let begun = Instant::now();
        let bed = make(&engine, &spec)?;
        let started: Result<Vec<_>, _> = bed.machines().map(|m| m.command(["true"]).start()).collect();
        for mut running in started? {
            running.wait(Some(LONG))?;
        }
        let alive = begun.elapsed();
        let held = (shares(&bed)?, (kernel_memory()? - before) / COUNT as f64);
        let killed = Instant::now();
        bed.kill(LONG)?;
        if round > 0 {
            pair.floor.add(floor);
            pair.ours.add(alive + killed.elapsed());
            memory = held;
        }
        drop(bed);
        engine.settle()?;
    }
    pair.tell("1000 machines", 1.5);
    let (share, kernel) = memory;
    say(&format!(
        "1000 machines          memory {share:.0} kB PSS of process 1 each: {}",
        verdict(share <= SHARE)
    ));
    say(&format!(
        "1000 machines          memory {kernel:.0} kB of the kernel each: {}",
        verdict(kernel <= KERNEL)
    ));
    Ok(())
}

/// The share of memory of process 1 of every 50th machine, in kB, on average.
fn shares(bed: &Bed) -> Outcome<f64> {
    let (mut total, mut count) = (0.0, 0.0);
    for machine in bed.machines().step_by(50) {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", machine.pid()?))?;
        total += field(&text, "Pss:")?;
        count += 1.0;
    }
    Ok(total / count)
}

/// What the kernel itself holds, in kB.
fn kernel_memory() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let mut total = 0.0;
    for name in ["Slab:", "KernelStack:", "PageTables:", "Percpu:"] {
        total += field(&text, name)?;
    }
    Ok(total)
}

fn field(text: &str, name: &str) -> Outcome<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

//! Commands in a machine that runs.

use super::{LONG, checked, engine, make};
use crate::floor::{Agent, drain};
use crate::sample::Pair;
use crate::{Outcome, say};
use rustix::pipe::{PipeFlags, pipe_with};
use std::process::{Command, Stdio};
use std::time::Instant;

const ALONE: &str = "[machines.m]\n";

/// A command that does nothing.
pub(crate) fn exec(rounds: usize) -> Outcome<()> {
    let engine = engine()?;
    let bed = make(&engine, &checked(ALONE)?)?;
    let machine = &bed["m"];
    let floor = Agent::start()?;
    let mut pair = Pair::default();
    for round in 0..rounds + 20 {
        let floor = floor.run("/bin/true")?;
        let begun = Instant::now();
        let exit = machine.command(["/bin/true"]).status()?;
        let ours = begun.elapsed();
        if !exit.success() {
            return Err("`true` failed".into());
        }
        if round >= 20 {
            pair.floor.add(floor);
            pair.ours.add(ours);
        }
    }
    pair.tell("exec", 1.3);
    Ok(bed.kill(LONG)?)
}

const OUTPUT: u64 = 1 << 30;
const WRITER: [&str; 4] = ["dd", "if=/dev/zero", "bs=64K", "count=16384"];

/// A long output, and the same writer on a plain pipe.
pub(crate) fn output(rounds: usize) -> Outcome<()> {
    let engine = engine()?;
    let bed = make(&engine, &checked(ALONE)?)?;
    let machine = &bed["m"];
    let mut pair = Pair::default();
    for round in 0..=rounds {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let begun = Instant::now();
        let mut writer =
            Command::new(WRITER[0]).args(&WRITER[1..]).stdout(write).stderr(Stdio::null()).spawn()?;
        let plain = drain(&read)?;
        writer.wait()?;
        let floor = begun.elapsed();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let null = std::fs::File::options().write(true).open("/dev/null")?.into();
        let begun = Instant::now();
        let mut running = machine.command(WRITER).spawn_with(None, write, Some(null))?;
        let ours = drain(&read)?;
        running.wait(Some(LONG))?;
        let took = begun.elapsed();
        if plain != OUTPUT || ours != OUTPUT {
            return Err(format!("{plain} and {ours} bytes instead of {OUTPUT}").into());
        }
        if round > 0 {
            pair.floor.add(floor);
            pair.ours.add(took);
        }
    }
    pair.tell("1 GiB of output", 1.0 / 0.8);
    let rate = OUTPUT as f64 / 1e6 / pair.ours.median().as_secs_f64();
    say(&format!("1 GiB of output        {rate:.0} MB/s"));
    Ok(bed.kill(LONG)?)
}

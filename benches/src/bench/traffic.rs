//! Traffic between two machines.

use super::{LONG, checked, engine, make};
use crate::floor::{Floor, NO_METRICS, TRAFFIC_BYTES};
use crate::sample::Pair;
use crate::{Outcome, say};
use std::time::Duration;

/// Where this program is seen in the machines.
const HERE: &str = "/opt/bench/testbed-bench";

/// One TCP stream, and the same over links of the same kind without any machine.
pub(crate) fn traffic(rounds: usize) -> Outcome<()> {
    let engine = engine()?;
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or("this program's path is not UTF-8")?;
    let (name, value) = NO_METRICS;
    let both = format!("mounts = {{ \"{HERE}\" = \"{program}\" }}\nsysctls = {{ \"{name}\" = \"{value}\" }}");
    let bed = make(
        &engine,
        &checked(&format!(
            "[networks]\nlan = {{ subnet = \"10.1.0.0/24\" }}\n[machines.a]\ninterfaces = {{ lan = \"10.1.0.1\" }}\n{both}\n\
             [machines.b]\ninterfaces = {{ lan = \"10.1.0.2\" }}\n{both}\n"
        ))?,
    )?;
    let mut floor = Floor::start(&["traffic"])?;
    let mut pair = Pair::default();
    for round in 0..=rounds {
        let floor = floor.round()?;
        let mut receiver = bed["a"].command([HERE, "floor", "receive-traffic"]).start()?;
        let sender = bed["b"].command([HERE, "floor", "send-traffic", "10.1.0.1:5001"]).output()?;
        let (received, _) = receiver.wait(Some(LONG))?;
        if !sender.success() || !received.success() {
            return Err(format!("traffic: {}", String::from_utf8_lossy(&sender.stderr)).into());
        }
        if round > 0 {
            pair.floor.add(floor);
            pair.ours.add(Duration::from_nanos(sender.text().parse()?));
        }
    }
    pair.tell("traffic", 1.0 / 0.9);
    let rate = TRAFFIC_BYTES as f64 * 8e-9 / pair.ours.median().as_secs_f64();
    say(&format!("traffic                {rate:.1} Gbit/s"));
    Ok(bed.kill(LONG)?)
}

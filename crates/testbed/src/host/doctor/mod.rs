//! What this host can do for testbeds, found out by doing it, and the way out of what it cannot.
//!
//! What needs namespaces is tried by a launcher, in children that vanish: see [`Probe`].

mod guests;
mod kernel;
mod limits;
mod networks;
mod rights;
mod storage;

use super::ids;
use crate::engine::Engine;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testbed_agent::launch::{self, Ids, Order, Probe, Root, Upper};
use testbed_agent::{Fault, FaultKind};

/// What the caller knows and the library does not look for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where layers of images are, or will be.
    pub store: Option<PathBuf>,
    /// Where Debian comes from, if not from the host's own apt sources.
    pub mirror: Option<String>,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// The version of this form.
    pub version: u32,
    /// Machines with the host's own root can be made.
    pub machines: bool,
    /// What was found, in the order in which it is told.
    pub findings: Vec<Finding>,
}

/// One thing that was tried or looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it belongs to: `kernel`, `limits`, `networks`, ….
    pub area: &'static str,
    /// What was tried or looked at.
    pub name: String,
    /// Whether that is well.
    pub state: State,
    /// What was found.
    pub fact: String,
    /// What it means for testbeds, where it is not well.
    pub effect: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As testbeds want it.
    Good,
    /// Some testbeds will miss it.
    Lacking,
    /// No machine can be made without it.
    Broken,
}

/// How much testbeds need something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// Every machine does.
    All,
    /// Some do.
    Some,
}

impl Finding {
    fn good(area: &'static str, name: impl Into<String>, fact: impl Into<String>) -> Finding {
        let (name, fact) = (name.into(), fact.into());
        Finding { area, name, state: State::Good, fact, effect: None, remedy: None }
    }

    fn lacking(
        area: &'static str,
        name: impl Into<String>,
        need: Need,
        fact: impl Into<String>,
        effect: impl Into<String>,
    ) -> Finding {
        let state = match need {
            Need::All => State::Broken,
            Need::Some => State::Lacking,
        };
        Finding { state, effect: Some(effect.into()), ..Finding::good(area, name, fact) }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }

    /// Good if the attempt was, with this fact.
    fn of(
        area: &'static str,
        name: impl Into<String>,
        attempt: Result<(), Fault>,
        need: Need,
        works: &str,
        effect: &str,
    ) -> Finding {
        match attempt {
            Ok(()) => Finding::good(area, name, works),
            Err(fault) => Finding::lacking(area, name, need, fault.to_string(), effect),
        }
    }
}

/// What tries things.
struct Prober {
    engine: Engine,
    ids: Ids,
}

impl Prober {
    fn attempt(&self, probe: Probe) -> Result<(), Fault> {
        self.engine.order(&Order::Try { probe, ids: self.ids })
    }

    fn is_root(&self) -> bool {
        !self.ids.is_ordinary()
    }
}

/// Looks at this host, for the user who runs this process.
///
/// # Errors
/// When not even a launcher can be started, or `/proc` cannot be read.
pub fn examine(options: &Options) -> Result<Examination, Fault> {
    let prober = Prober { engine: Engine::idle()?, ids: ids()? };
    let mut findings = kernel::examine(&prober);
    findings.push(rights::examine(&prober));
    findings.extend(limits::examine(&prober)?);
    findings.extend(networks::examine(&prober));
    findings.extend(storage::examine(&prober, options));
    findings.extend(guests::examine(options));
    drop(prober);
    let machine = machine();
    let machines = machine.is_ok();
    findings.push(match machine {
        Ok(took) => {
            let milliseconds = took.as_secs_f64() * 1e3;
            Finding::good("machines", "a machine", format!("made, used and gone in {milliseconds:.0} ms"))
        }
        Err(fault) => {
            let effect = "no testbed can be made here";
            let found = Finding::lacking("machines", "a machine", Need::All, fault.to_string(), effect);
            found.remedy(fault.hint.unwrap_or_else(|| "see what is marked above".to_owned()))
        }
    });
    Ok(Examination { version: 1, machines, findings })
}

/// More than a machine takes on a host that is busy.
const DEADLINE: Duration = Duration::from_secs(10);
/// Memory for what a machine changes.
const UPPER: u64 = 16 << 20;

/// Makes a machine, runs something in it, and ends it.
fn machine() -> Result<Duration, Fault> {
    let started = Instant::now();
    let engine = super::engine()?;
    let root = Root { layers: Vec::new(), host: true };
    let spec = launch::Machine::new("doctor", root, Upper::Memory(UPPER));
    let machine = engine.machine("doctor", spec)?;
    machine.wait_started(DEADLINE)?;
    let output = machine.shell("true").deadline(DEADLINE).output()?;
    if !output.success() {
        let what = "run a shell: it ended otherwise than well";
        return Err(Fault::new(FaultKind::State, what).log(output.text()));
    }
    machine.kill(DEADLINE)?;
    Ok(started.elapsed())
}

fn read_text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn read_number(path: &str) -> Option<u64> {
    read_text(path)?.parse().ok()
}

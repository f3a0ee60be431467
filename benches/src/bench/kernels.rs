//! Machines with kernels of their own, against hypervisors that go on with the same template.

use super::{LONG, by_turns, checked, engine};
use crate::floor::Floor;
use crate::sample::{Pair, Sample, show};
use crate::{Outcome, say};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use testbed::bed::{Bed, Images as _, Options, Prepared, StoredImages};
use testbed::image::Store;
use testbed::{Engine, spec};
use testbed_agent::agent::{Report, Tool};

/// Where root's images are.
pub(super) const STORE: &str = "/var/cache/testbed";

const ONE: &str = "[machines.m]\nimage = \"debian:bookworm\"\nkernel = \"own\"";
const FIVE: &str = r#"
    [images.deb]
    base = "debian:bookworm"
    [machines.m]
    image = "deb"
    kernel = "own"
    count = 5
"#;
const RING: &str = r#"
    [images.deb]
    base = "debian:bookworm"
    [networks]
    lan = { subnet = "10.0.0.0/24" }
    [machines.m]
    image = "deb"
    kernel = "own"
    count = 5
    interfaces = { lan = "10.0.0.1+" }
"#;

/// A testbed whose machines have what they start from.
struct Ready {
    engine: Engine,
    spec: Arc<spec::Testbed>,
    images: Prepared,
    layers: String,
}

impl Ready {
    fn new(text: &str) -> Outcome<Ready> {
        let (engine, spec) = (engine()?, checked(text)?);
        let store = Store::open(STORE)?;
        let options = testbed::image::Options::default();
        let stored = StoredImages { store: &store, engine: engine.clone(), options, progress: &|_| {} };
        let images = Prepared::new(&spec, &stored)?;
        let first = spec.machines().first().ok_or("no machine")?;
        let root = images.resolve_jail(&spec, first)?;
        let layers: Vec<&str> = root.layers.iter().filter_map(|path| path.to_str()).collect();
        Ok(Ready { engine, layers: layers.join(":"), spec, images })
    }

    fn make(&self) -> Outcome<Bed> {
        Ok(Bed::make(&self.engine, &self.spec, &self.images, &Options::default())?)
    }

    /// The floor that does the same with the words of a hypervisor of ours.
    fn floor(&self, what: &str) -> Outcome<Floor> {
        let bed = self.make()?;
        // One that has just been started may have no words yet.
        for machine in bed.machines() {
            machine.stat("/")?;
        }
        let words = hypervisors(&bed)?.first().map(|pid| words_of(*pid)).ok_or("no hypervisor")??;
        bed.kill(LONG)?;
        let words = ["kernel", what, &self.layers].into_iter().chain(words.iter().map(String::as_str));
        Floor::start(&words.collect::<Vec<_>>())
    }
}

pub(super) fn words_of(pid: u32) -> Outcome<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cmdline"))?;
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// The hypervisors of a bed's machines.
fn hypervisors(bed: &Bed) -> Outcome<Vec<u32>> {
    bed.machines().map(|machine| hypervisor_in(machine.pid()?)).collect()
}

/// The hypervisor in the jail with this process 1.
pub(super) fn hypervisor_in(jail: u32) -> Outcome<u32> {
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid"));
    let wanted = namespace(jail)?;
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let is_one = Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok_and(|exe| {
            exe.file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu-system"))
        });
        if is_one && namespace(pid).is_ok_and(|its| its == wanted) {
            return Ok(pid);
        }
    }
    Err("no hypervisor".into())
}

/// All of them.
pub(crate) fn kernels(rounds: usize) -> Outcome<()> {
    let one = Ready::new(ONE)?;
    let mut floor = one.floor("clone")?;
    let (mut firsts, mut rollbacks) = (Sample::default(), Sample::default());
    let clones = by_turns(rounds, &mut floor, || {
        let begun = Instant::now();
        let bed = one.make()?;
        bed["m"].stat("/")?;
        let answers = begun.elapsed();
        bed["m"].command(["true"]).status()?;
        firsts.add(begun.elapsed());
        bed.snapshot("then", &[])?;
        let begun = Instant::now();
        bed.rollback("then", &[])?;
        bed["m"].stat("/")?;
        rollbacks.add(begun.elapsed());
        bed.kill(LONG)?;
        Ok(answers)
    })?;
    let rollbacks = Pair { ours: rollbacks, floor: clones.floor.clone() };
    clones.tell("a kernel's clone", 1.3);
    say(&format!("a kernel's clone       first command done after {} (median)", show(firsts.median())));
    rollbacks.tell("a kernel's rollback", 1.3);
    pair("five kernels", FIVE, "five", rounds, &|bed| super::use_up(bed))?;
    pair("five kernels, a ring", RING, "ring", rounds, &ring)
}

fn pair(
    name: &str,
    text: &str,
    what: &str,
    rounds: usize,
    work: &dyn Fn(&Bed) -> Outcome<()>,
) -> Outcome<()> {
    let ready = Ready::new(text)?;
    let pair = by_turns(rounds, &mut ready.floor(what)?, || {
        let begun = Instant::now();
        let bed = ready.make()?;
        work(&bed)?;
        Ok(begun.elapsed())
    })?;
    pair.tell(name, 1.25);
    Ok(())
}

/// Each pings the next, and they are killed.
fn ring(bed: &Bed) -> Outcome<()> {
    let machines: Vec<_> = bed.machines().collect();
    std::thread::scope(|scope| {
        let pings: Vec<_> = (0..machines.len())
            .map(|number| {
                let machine = machines[number];
                let target = [10, 0, 0, ((number + 1) % machines.len()) as u8 + 1].into();
                let ping = Tool::Ping {
                    target,
                    count: 1,
                    interval_ms: 1,
                    wait_ms: 10_000,
                    size: 8,
                    interface: None,
                };
                scope.spawn(move || machine.tool(ping, LONG))
            })
            .collect();
        for ping in pings {
            match ping.join() {
                Ok(Ok(Report::Ping { received: 1, .. })) => {}
                other => return Err(format!("a ping of the ring: {other:?}").into()),
            }
        }
        Ok(())
    })
    .and_then(|()| Ok(bed.kill(LONG)?))
}

//! What would be made of a testbed on a host, in which order, and why.

mod capability;
mod kernel;
mod show;

pub use capability::host_for;
pub(crate) use kernel::base_of;
pub use kernel::{decide_kernels, decide_kernels_here};

use crate::spec::{
    Base, Expect, FileContent, FileEntry, Fresh, Image, Machine, Need, Network, On, Step, Test, Testbed,
    graph, print_size,
};
use kernel::{Choice, with_capsule};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// What is known of the host that a testbed is planned for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The release of its kernel: `6.18.0`.
    pub kernel: String,
    /// What its kernel can do, by the names that `needs` uses: `vlan`, `netem`, `module:wireguard`.
    pub capabilities: BTreeSet<String>,
    /// Machines can have kernels of their own.
    pub own_kernels: bool,
}

impl Host {
    fn lacks(&self, needs: &[Need]) -> Vec<String> {
        let missing = needs.iter().filter(|need| !self.capabilities.contains(need.as_str()));
        missing.map(|need| need.as_str().to_owned()).collect()
    }
}

/// What would be made, in this order. `Display` shows it to people; `Serialize` gives stable JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The version of the JSON form.
    pub version: u32,
    /// The testbed's name.
    pub testbed: String,
    /// The images, each after its base.
    pub images: Vec<PlannedImage>,
    /// The networks, in file order.
    pub networks: Vec<PlannedNetwork>,
    /// The machines, each after those it depends on.
    pub machines: Vec<PlannedMachine>,
    /// The copies of the testbed that a run makes, and their tests.
    pub copies: Vec<PlannedCopy>,
    /// The tests that a run would skip.
    pub skipped: Vec<SkippedTest>,
    /// What keeps this host from making the testbed. Empty if nothing does.
    pub obstacles: Vec<Obstacle>,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedImage {
    /// Its name.
    pub name: String,
    /// What lies below its layers.
    pub base: String,
    /// Who wants it.
    pub why: String,
    /// Its layers, lowest first.
    pub layers: Vec<PlannedLayer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedLayer {
    /// What makes it.
    pub step: String,
    /// What asks for it.
    pub why: String,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedNetwork {
    /// Its name.
    pub name: String,
    /// Its subnets; none on a raw network.
    pub subnets: Vec<String>,
    /// Its largest packet, in bytes.
    pub mtu: u32,
    /// The gateway addresses of its way out through the host; empty if it has none.
    pub uplink: Vec<String>,
    /// The machines on it.
    pub machines: Vec<String>,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedMachine {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Whose kernel it runs on.
    pub kernel: PlannedKernel,
    /// Why that one.
    pub why: String,
    /// The machines that must be ready before it starts.
    pub after: Vec<String>,
    /// Its interfaces.
    pub interfaces: Vec<PlannedInterface>,
    /// The routers of its default routes.
    pub gateways: Vec<String>,
    /// Its services, by name.
    pub services: Vec<String>,
    /// Its limits, each in words.
    pub limits: Vec<String>,
}

/// Whose kernel a machine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannedKernel {
    /// The host's.
    Shared,
    /// Its own, in a virtual machine.
    Own,
    /// That of the virtual machine that holds all machines of the testbed.
    Capsule,
}

/// An interface of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedInterface {
    /// Its name inside.
    pub name: String,
    /// Its network.
    pub network: String,
    /// Its address on the link.
    pub mac: String,
    /// Its addresses, with prefix lengths.
    pub addresses: Vec<String>,
}

/// A copy of the testbed, and the tests that run in it, one after another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedCopy {
    /// Why these tests share it.
    pub why: String,
    /// Its tests.
    pub tests: Vec<PlannedTest>,
}

/// A test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedTest {
    /// Its id.
    pub id: String,
    /// The machine it runs on, or `host`.
    pub on: String,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// Which end is the good one: `success` or `failure`.
    pub expect: &'static str,
}

/// A test that a run would skip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedTest {
    /// Its id.
    pub id: String,
    /// Why.
    pub why: String,
}

/// Something that keeps the host from making the testbed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// The machine that cannot be made.
    pub machine: String,
    /// Why not.
    pub why: String,
    /// The way out.
    pub hint: String,
}

impl Plan {
    /// Plans a testbed for a host.
    pub fn new(testbed: &Testbed, host: &Host) -> Plan {
        let testbed = &*with_capsule(testbed, host);
        let mut obstacles = Vec::new();
        let mut kernels = HashMap::new();
        for machine in testbed.machines() {
            let choice = Choice::new(machine, testbed, host);
            obstacles.extend(choice.obstacle.clone());
            kernels.insert(machine.name(), choice);
        }
        let machines = start_order(testbed)
            .into_iter()
            .map(|machine| planned_machine(machine, &kernels[machine.name()]));
        let machines = machines.collect();
        let (copies, skipped) = copies(testbed, host, &kernels);
        Plan {
            version: 1,
            testbed: testbed.name().to_owned(),
            images: testbed.images().iter().map(|image| planned_image(image, testbed)).collect(),
            networks: testbed.networks().iter().map(|network| planned_network(network, testbed)).collect(),
            machines,
            copies,
            skipped,
            obstacles,
        }
    }
}

/// The machines, each after those it depends on, otherwise in file order.
pub fn start_order(testbed: &Testbed) -> Vec<&Machine> {
    let machines = testbed.machines();
    let numbers: HashMap<&str, usize> =
        machines.iter().enumerate().map(|(number, machine)| (machine.name(), number)).collect();
    let needs = |machine: &Machine| {
        machine.depends().iter().filter_map(|name| numbers.get(name.as_str()).copied()).collect()
    };
    let needs: Vec<Vec<usize>> = machines.iter().map(needs).collect();
    graph::sort(&needs).sorted.into_iter().map(|number| &machines[number]).collect()
}

fn planned_image(image: &Image, testbed: &Testbed) -> PlannedImage {
    let of = |machine: &&Machine| machine.image() == image.name();
    let above = |other: &&Image| matches!(other.base(), Base::Image(base) if base == image.name());
    let machines: Vec<&str> = testbed.machines().iter().filter(of).map(Machine::name).collect();
    let images: Vec<&str> = testbed.images().iter().filter(above).map(Image::name).collect();
    let mut wanted = Vec::new();
    if !machines.is_empty() {
        wanted.push(format!("for {}", machines.join(", ")));
    }
    if !images.is_empty() {
        wanted.push(format!("below the image {}", images.join(", ")));
    }
    PlannedImage {
        name: image.name().to_owned(),
        base: match image.base() {
            Base::Host => "the host's own root, read-only".to_owned(),
            Base::Debian(codename) => format!("Debian {codename}, from packages"),
            Base::Folder(path) => format!("the folder {}", path.display()),
            Base::Tar(path) => format!("the tar file {}", path.display()),
            Base::Oci(path) => format!("the OCI layout {}", path.display()),
            Base::Imported(name) => format!("the imported image {name}"),
            Base::Image(name) => format!("the image {name}"),
            Base::Disk(path, _) => format!("the disk {}, read-only", path.display()),
            Base::Blank => "a disk with nothing on it".to_owned(),
        },
        why: if wanted.is_empty() {
            "the file declares it; nothing uses it".to_owned()
        } else {
            wanted.join("; ")
        },
        layers: image.steps().iter().map(planned_layer).collect(),
    }
}

fn planned_layer(step: &Step) -> PlannedLayer {
    match step {
        Step::Packages(names) => PlannedLayer {
            step: format!("install {}", names.join(", ")),
            why: "`packages` of the image".to_owned(),
        },
        Step::Files(files) => {
            let each = |file: &FileEntry| match file.content() {
                FileContent::Source(path) => format!("{} from {}", file.target(), path.display()),
                FileContent::Text(_) => format!("{} from the file's text", file.target()),
            };
            let all: Vec<String> = files.iter().map(each).collect();
            PlannedLayer { step: format!("put {}", all.join(", ")), why: "`files` of the image".to_owned() }
        }
        Step::Run(text) => PlannedLayer { step: format!("run {text}"), why: "`run` of the image".to_owned() },
    }
}

fn planned_network(network: &Network, testbed: &Testbed) -> PlannedNetwork {
    let on = |machine: &&Machine| {
        machine.interfaces().iter().any(|interface| interface.network() == network.name())
    };
    PlannedNetwork {
        name: network.name().to_owned(),
        subnets: network.subnets().iter().map(ToString::to_string).collect(),
        mtu: network.mtu(),
        uplink: network.uplink().unwrap_or_default().iter().map(ToString::to_string).collect(),
        machines: testbed.machines().iter().filter(on).map(|machine| machine.name().to_owned()).collect(),
    }
}

fn planned_machine(machine: &Machine, choice: &Choice) -> PlannedMachine {
    let limits = machine.limits();
    PlannedMachine {
        name: machine.name().to_owned(),
        image: machine.image().to_owned(),
        kernel: choice.kernel,
        why: choice.why.clone(),
        after: machine.depends().to_vec(),
        interfaces: machine
            .interfaces()
            .iter()
            .map(|interface| PlannedInterface {
                name: interface.name().to_owned(),
                network: interface.network().to_owned(),
                mac: interface.mac().to_string(),
                addresses: interface.addresses().iter().map(ToString::to_string).collect(),
            })
            .collect(),
        gateways: machine.gateways().iter().map(ToString::to_string).collect(),
        services: machine.services().iter().map(|service| service.name().to_owned()).collect(),
        limits: [
            limits.memory().map(|bytes| format!("memory {}", print_size(bytes))),
            limits.cpu_milli().map(|milli| format!("cpus {}", f64::from(milli) / 1000.0)),
            limits.pids().map(|pids| format!("pids {pids}")),
            machine.disk().map(|bytes| format!("disk {}", print_size(bytes))),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// The copies that a run makes, in file order of their first tests, and the tests that it skips.
fn copies(
    testbed: &Testbed,
    host: &Host,
    kernels: &HashMap<&str, Choice>,
) -> (Vec<PlannedCopy>, Vec<SkippedTest>) {
    let mut copies: Vec<PlannedCopy> = Vec::new();
    let mut shared: HashMap<&Fresh, usize> = HashMap::new();
    let mut skipped = Vec::new();
    for test in testbed.tests() {
        let missing = match test.on() {
            // A kernel of its own has what its machine needs.
            On::Machine(name)
                if kernels
                    .get(name.as_str())
                    .is_some_and(|choice| choice.kernel != PlannedKernel::Shared) =>
            {
                Vec::new()
            }
            _ => host.lacks(test.needs()),
        };
        if !missing.is_empty() {
            let why = format!("the host's kernel {} has no {}", host.kernel, missing.join(", "));
            skipped.push(SkippedTest { id: test.id().to_owned(), why });
            continue;
        }
        let why = match test.fresh() {
            Fresh::Testbed => "of its own".to_owned(),
            Fresh::Group(name) => format!("of the group {name}"),
            Fresh::Run => "of the run".to_owned(),
        };
        let number = match test.fresh() {
            Fresh::Testbed => copies.len(),
            fresh => *shared.entry(fresh).or_insert(copies.len()),
        };
        if number == copies.len() {
            copies.push(PlannedCopy { why, tests: Vec::new() });
        }
        copies[number].tests.push(planned_test(test));
    }
    (copies, skipped)
}

fn planned_test(test: &Test) -> PlannedTest {
    PlannedTest {
        id: test.id().to_owned(),
        on: match test.on() {
            On::Host => "host".to_owned(),
            On::Machine(name) => name.clone(),
        },
        // A deadline is at most a month.
        timeout_ms: u64::try_from(test.timeout().as_millis()).unwrap_or(u64::MAX),
        expect: match test.expect() {
            Expect::Success => "success",
            Expect::Failure => "failure",
        },
    }
}

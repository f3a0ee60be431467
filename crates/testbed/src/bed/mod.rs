//! A bed: one copy of a testbed, alive.
//!
//! Making it asks the launcher for the fabric and all machines in one go; becoming ready is what the file asks for
//! beyond that: files, services, conditions, in the order of `depends`.

mod capsule;
mod changes;
mod definition;
mod files;
mod images;
mod lifecycle;
mod links;
mod origin;
mod ports;
mod readiness;
mod service;
mod snapshot;
mod up;
mod watching;
mod wires;

pub use crate::machine::Log;
pub use changes::{Change, ChangeKind};
pub use images::{CapsuleRoots, HostOnly, ImageRoot, Images, Prepared, StoredImages};
pub use lifecycle::Ending;
pub use links::{Attached, NewInterface};
pub use origin::{First, Origin};
pub use service::ServiceStatus;
pub use testbed_agent::control::SnapshotStatus;

use crate::control::session::Session;
use crate::engine::Engine;
use crate::engine::link::lock;
use crate::machine::{Condition, Console, Machine};
use crate::net::recent::{Watched, Watcher};
use crate::net::stream::Stream;
use crate::net::switch::Switch;
use crate::net::uplink;
use crate::spec;
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Index;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use testbed_agent::agent::Run;
use testbed_agent::launch::{LinkMode, Order};
use testbed_agent::{Fault, FaultKind};

use capsule::{Capsule, Sleeping};
use lifecycle::Place;
use ports::Ports;
use service::Services;
use snapshot::Snapshots;
use watching::Watching;
use wires::Wires;

/// How a bed is made, beyond what its file says.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Variables that `pass-env` may name.
    pub env: Vec<(String, String)>,
    /// How networks with an uplink reach out.
    pub uplink: uplink::Options,
    /// Published ports listen at any free port of the address that the file names: for one copy of many.
    pub free_ports: bool,
    /// Who keeps the last packets of all networks, from their beginning: [`Bed::watched`].
    pub watcher: Option<Arc<Watcher>>,
}

/// The name that a machine's console has among the logs of its services.
pub const CONSOLE: &str = "console";

/// One copy of a testbed. Cheap to clone; the last clone ends its machines.
#[derive(Clone)]
pub struct Bed {
    shared: Arc<Shared>,
}

/// A copy of a testbed that somebody else keeps alive.
#[derive(Clone)]
pub(crate) struct WeakBed(Weak<Shared>);

impl WeakBed {
    pub(crate) fn upgrade(&self) -> Option<Bed> {
        self.0.upgrade().map(|shared| Bed { shared })
    }
}

struct Shared {
    spec: Arc<spec::Testbed>,
    /// What makes its machines. A capsule has another one each time it goes back.
    engine: Mutex<Engine>,
    capsule: Option<Capsule>,
    /// It was ready when it was copied, and goes on.
    goes_on: bool,
    fabric: u32,
    machines: Vec<Machine>,
    /// By the number of the machine.
    places: Vec<Mutex<Place>>,
    by_name: HashMap<String, usize>,
    /// Whether an adapter of a machine with a kernel of its own is cut: by the numbers of machine and interface.
    adapters: HashMap<(usize, u32), Arc<AtomicBool>>,
    /// What machines are made of, by the name of the image.
    roots: Prepared,
    options: Options,
    snapshots: Mutex<Snapshots>,
    services: Services,
    ports: Ports,
    /// Interfaces beside those of the file.
    attached: Mutex<Vec<Attached>>,
    watched: Vec<(String, Watched)>,
    /// Those that connect more than the kernel does, by the names of networks.
    switches: Mutex<HashMap<String, Switch>>,
}

impl Shared {
    /// A machine has started where another one slept, which was ready.
    fn goes_on(&self, machine: &str) -> bool {
        let number = self.by_name.get(machine);
        self.goes_on || number.is_some_and(|number| lock(&self.places[*number]).memory.is_some())
    }
}

impl Bed {
    /// Has the networks and machines made. They may not answer yet; what is asked of them waits.
    ///
    /// # Errors
    /// When an image cannot be had, no kernel will do for a machine, or the launcher refuses.
    pub fn make(
        engine: &Engine,
        spec: &Arc<spec::Testbed>,
        images: &dyn Images,
        options: &Options,
    ) -> Result<Bed, Fault> {
        let roots = Prepared::new(spec, images)?;
        let spec = Arc::clone(roots.testbed());
        let places = spec.machines().iter().map(|_| Place::default()).collect();
        if spec.capsule().is_some() {
            let (capsule, inside) = Capsule::make(engine, &spec, &roots, None)?;
            return Bed::build(&inside, &spec, roots, options.clone(), places, Some(capsule));
        }
        Bed::build(engine, &spec, roots, options.clone(), places, None)
    }

    /// A copy of a bed whose capsule sleeps.
    fn of_sleeping(
        host: &Engine,
        spec: &Arc<spec::Testbed>,
        roots: Prepared,
        options: Options,
        sleeping: &Sleeping,
    ) -> Result<Bed, Fault> {
        let (capsule, engine) = Capsule::make(host, spec, &roots, Some(sleeping))?;
        let names = spec.machines().iter().map(|machine| machine.name().to_owned());
        let shared = Shared {
            ports: Ports::default(),
            attached: Mutex::new(sleeping.attached()),
            spec: Arc::clone(spec),
            capsule: Some(capsule),
            goes_on: true,
            fabric: sleeping.fabric(),
            machines: sleeping.take_up(spec, &engine)?,
            places: sleeping.places(&engine).into_iter().map(Mutex::new).collect(),
            by_name: names.zip(0..).collect(),
            adapters: HashMap::new(),
            roots,
            options,
            snapshots: Mutex::default(),
            services: Services::default(),
            watched: Vec::new(),
            switches: Mutex::default(),
            engine: Mutex::new(engine),
        };
        sleeping.take_up_programs(&shared.services, &shared.machines)?;
        let bed = Bed { shared: Arc::new(shared) };
        bed.connect_outside(Vec::new())?;
        Ok(bed)
    }

    /// Has the networks made, and the machines on what their places say.
    fn build(
        engine: &Engine,
        spec: &Arc<spec::Testbed>,
        roots: Prepared,
        options: Options,
        mut places: Vec<Place>,
        capsule: Option<Capsule>,
    ) -> Result<Bed, Fault> {
        let fabric = engine.number();
        let making = engine.send_order(&definition::fabric(spec, fabric), Vec::new())?;
        // What passes in a capsule is seen there only.
        let watcher = options.watcher.as_deref().filter(|_| capsule.is_none());
        let watching = Watching::ask(engine, spec, fabric, watcher)?;
        let mut machines = Vec::with_capacity(spec.machines().len());
        let mut by_name = HashMap::new();
        let (mut adapters, mut streams) = (HashMap::new(), Vec::new());
        for (machine, place) in spec.machines().iter().zip(&mut places) {
            by_name.insert(machine.name().to_owned(), machines.len());
            let root = roots.of(machine)?;
            machines.push(if machine.kernel() == spec::Kernel::Own {
                let cuts = machine.interfaces().iter().map(|_| Arc::default()).collect::<Vec<_>>();
                let wires = Wires::make(machine, &cuts)?;
                adapters.extend((0..).map(|interface| (machines.len(), interface)).zip(cuts));
                streams.extend(wires.streams);
                let mut birth = definition::birth(spec, machine, root, &options, wires.links)?;
                place.settle_in(&mut birth);
                Machine::make_guest(engine, machine.name(), birth)?
            } else {
                let mut definition = definition::machine(spec, machine, root, Some(fabric), &options)?;
                definition.snapshots = place.below.iter().map(|upper| upper.number()).collect();
                engine.machine(machine.name(), definition)?
            });
        }
        making.wait()?;
        let watched = watching.start();
        let shared = Shared {
            ports: Ports::default(),
            attached: Mutex::default(),
            spec: Arc::clone(spec),
            engine: Mutex::new(engine.clone()),
            capsule,
            goes_on: false,
            fabric,
            machines,
            places: places.into_iter().map(Mutex::new).collect(),
            by_name,
            adapters,
            roots,
            options: options.clone(),
            snapshots: Mutex::default(),
            services: Services::default(),
            watched,
            switches: Mutex::default(),
        };
        let bed = Bed { shared: Arc::new(shared) };
        for (number, place) in bed.shared.places.iter().enumerate() {
            for interface in &lock(place).cut {
                bed.set_link(number, *interface, LinkMode::Cut)?;
            }
        }
        bed.connect_outside(streams)?;
        for number in 0..bed.shared.machines.len() {
            bed.take_up_programs(number, &lock(&bed.shared.places[number]))?;
        }
        Ok(bed)
    }

    /// Connects it with what is outside: its own programs, what is no port of the kernel's, and the host's ports.
    fn connect_outside(&self, streams: Vec<(String, Stream)>) -> Result<(), Fault> {
        for machine in self.machines() {
            self.serve_programs(machine);
        }
        let options = &self.shared.options;
        *lock(&self.shared.switches) = self.start_switches(&options.uplink, streams)?;
        let place = |_: &spec::Machine, port: &spec::Port| {
            let declared = port.host();
            if options.free_ports { SocketAddr::new(declared.ip(), 0) } else { declared }
        };
        self.publish_ports(place).map(drop)
    }

    /// Lets programs of a machine that may control the testbed reach it.
    fn serve_programs(&self, machine: &Machine) {
        let rights = self.shared.spec.machine(machine.name()).map(spec::Machine::control);
        if let Some(rights) = rights.filter(|rights| **rights != spec::Control::None) {
            machine.serve(Session::of_machine(self.downgrade(), machine.name(), rights.clone()));
        }
    }

    pub(crate) fn downgrade(&self) -> WeakBed {
        WeakBed(Arc::downgrade(&self.shared))
    }

    /// Makes it and waits until it is ready.
    ///
    /// # Errors
    /// As for [`Bed::make`] and [`Bed::wait_ready`].
    pub fn up(
        engine: &Engine,
        spec: &Arc<spec::Testbed>,
        images: &dyn Images,
        options: &Options,
    ) -> Result<Bed, Fault> {
        let bed = Bed::make(engine, spec, images, options)?;
        bed.wait_ready()?;
        Ok(bed)
    }

    /// Puts files in place, starts services, and waits until every machine is what its file calls ready.
    ///
    /// # Errors
    /// The first machine that does not become ready, with the end of its services' logs.
    pub fn wait_ready(&self) -> Result<(), Fault> {
        readiness::wait(self, readiness::Files::Put, &|_| true)
    }

    /// The networks that the watcher of [`Options`] keeps the last packets of, by their names.
    pub fn watched(&self) -> &[(String, Watched)] {
        &self.shared.watched
    }

    /// What it is a copy of.
    pub fn spec(&self) -> &Arc<spec::Testbed> {
        &self.shared.spec
    }

    /// The engine that keeps it.
    pub fn engine(&self) -> Engine {
        lock(&self.shared.engine).clone()
    }

    /// The number of its fabric at the launcher.
    pub fn fabric(&self) -> u32 {
        self.shared.fabric
    }

    /// The number of a network in its fabric.
    pub fn network_number(&self, name: &str) -> Option<u32> {
        self.shared.spec.networks().iter().position(|n| n.name() == name).map(|n| n as u32)
    }

    /// The machine with this name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.shared.by_name.get(name).and_then(|number| self.shared.machines.get(*number))
    }

    /// The machine with this name, or a fault that lists those there are.
    ///
    /// # Errors
    /// [`FaultKind::NotFound`].
    pub fn find(&self, name: &str) -> Result<&Machine, Fault> {
        self.machine(name).ok_or_else(|| {
            let names: Vec<&str> = self.machines().map(Machine::name).collect();
            Fault::new(FaultKind::NotFound, format!("no machine `{name}`"))
                .hint(format!("there are: {}", names.join(", ")))
        })
    }

    /// All machines, in the order of the file.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.shared.machines.iter()
    }

    /// The last of what a service has written; [`CONSOLE`] is what a kernel of the machine's own has, if it has one and no
    /// service is called so.
    pub fn service_log(&self, machine: &str, service: &str) -> Option<Arc<Log>> {
        let console = || {
            let machine = self.find(machine).ok().filter(|_| service == CONSOLE)?;
            let capsule = self.shared.capsule.as_ref().map(Capsule::console);
            capsule.unwrap_or_else(|| machine.console()).ok().map(|console| console.log())
        };
        self.shared.services.log(machine, service).or_else(console)
    }

    /// The console of a machine that has a kernel of its own, and runs.
    ///
    /// # Errors
    /// As for [`Machine::console`]; [`FaultKind::State`] for one that has ended.
    pub fn console(&self, machine: &str) -> Result<Arc<Console>, Fault> {
        let machine = self.find(machine)?;
        let console = machine.console()?;
        if machine.condition() == Condition::Stopped {
            let fault = machine.fault(FaultKind::State, "reach the console of a machine that has stopped");
            return Err(fault.hint(format!("`testbed logs {} {CONSOLE}` shows what it said", machine.name())));
        }
        Ok(console)
    }

    /// All services and how they are.
    pub fn services(&self) -> Vec<ServiceStatus> {
        self.shared.services.status()
    }

    /// Starts a program that goes on by itself; its log is that of a service called `exec-PID`.
    pub(crate) fn start_program(&self, machine: &str, run: Run) -> Result<u32, Fault> {
        self.shared.services.start_program(self.find(machine)?, run)
    }

    /// Opens a packet socket that sees every frame of a network once.
    ///
    /// # Errors
    /// When there is no such network.
    pub(crate) fn packet_socket(&self, network: &str) -> Result<OwnedFd, Fault> {
        let (fabric, network) = (self.shared.fabric, self.find_network(network)?);
        if self.shared.capsule.is_some() {
            return Err(Fault::new(FaultKind::Unsupported, "open a socket on a network of a capsule"));
        }
        self.engine().open(&Order::Capture { fabric, network })
    }

    fn find_network(&self, network: &str) -> Result<u32, Fault> {
        let missing = || Fault::new(FaultKind::NotFound, format!("no network `{network}`"));
        self.network_number(network).ok_or_else(missing)
    }

    /// Kills all machines, and waits until nothing of them is left.
    ///
    /// # Errors
    /// When that takes longer than `deadline`.
    pub fn kill(&self, deadline: Duration) -> Result<(), Fault> {
        if let Some(capsule) = &self.shared.capsule {
            self.shared.ports.clear();
            lock(&self.shared.switches).clear();
            self.machines().for_each(Machine::expect_end);
            return capsule.kill(deadline);
        }
        for machine in self.machines() {
            machine.start_kill()?;
        }
        for machine in self.machines() {
            machine.wait_ended(deadline)?;
        }
        for place in &self.shared.places {
            lock(place).end_files(deadline)?;
        }
        self.shared.ports.clear();
        lock(&self.shared.switches).clear();
        Ok(())
    }
}

impl Index<&str> for Bed {
    type Output = Machine;

    /// The machine with this name.
    ///
    /// # Panics
    /// If there is none; [`Bed::machine`] does not panic.
    fn index(&self, name: &str) -> &Machine {
        match self.find(name) {
            Ok(machine) => machine,
            Err(fault) => {
                panic!("{fault}{}", fault.hint.as_ref().map_or(String::new(), |h| format!(" ({h})")))
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Without its launcher there is no fabric either.
        let _ = lock(&self.engine).send_order(&Order::DropFabric { fabric: self.fabric }, Vec::new());
    }
}

//! The checked model: only legal values exist.
//!
//! Everything here has private fields, because a value of these types is the proof that the checks have passed:
//! each network that is named exists, each address lies in its subnet, no two machines share one, and so on.

mod capsule;
mod image;
mod machine;
mod need;
mod network;
mod test;

pub use capsule::Capsule;
pub use image::{Base, DiskFormat, FileContent, FileEntry, Image, Step};
pub use machine::{
    Address, Control, GuestKernel, Init, Interface, Kernel, Limits, Machine, Mount, Port, Ready,
    ReadyCondition, Right, RightAction, Route, Service,
};
pub(crate) use need::ABILITIES;
pub use need::Need;
pub use network::Network;
pub use test::{Expect, Fresh, On, Program, Test};

use std::path::{Path, PathBuf};
use std::time::Duration;

/// A declared set of machines and networks, and the tests that run on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Testbed {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) images: Vec<Image>,
    pub(super) networks: Vec<Network>,
    pub(super) machines: Vec<Machine>,
    pub(super) tests: Vec<Test>,
    pub(super) capsule: Option<Capsule>,
    pub(super) deadlines: Deadlines,
    pub(super) kernels_are_decided: bool,
}

impl Testbed {
    /// Its name: a host label. The folder's name if the file gives none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder that the file lies in. All paths of the model already start with it.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Every image that a machine uses or the file declares, in dependency order: an image comes after its base.
    /// What a machine names directly (`host`, `debian:bookworm`, a path) is here too, under that name.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The image of this name. Present for each [`Machine::image`].
    pub fn image(&self, name: &str) -> Option<&Image> {
        self.images.iter().find(|image| image.name() == name)
    }

    /// The networks, in file order.
    pub fn networks(&self) -> &[Network] {
        &self.networks
    }

    /// The network of this name. Present for each [`Interface::network`].
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.name() == name)
    }

    /// The machines, in file order; `count` is already carried out.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The names of the images that machines use, sorted: a capsule knows each by its place here.
    pub(crate) fn capsule_images(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.machines.iter().map(Machine::image).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The machine of this name.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.name() == name)
    }

    /// The tests, in file order; `files` patterns are already expanded. Their ids are unique.
    pub fn tests(&self) -> &[Test] {
        &self.tests
    }

    /// The machine that holds all others, if the file asks for one.
    pub fn capsule(&self) -> Option<&Capsule> {
        self.capsule.as_ref()
    }

    /// The deadlines that hold where a machine or a test has none of its own.
    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// Whether no machine's kernel is [`Kernel::Any`] because somebody has decided
    /// ([`decide_kernels`](crate::plan::decide_kernels)).
    pub(crate) fn has_decided_kernels(&self) -> bool {
        self.kernels_are_decided
    }

    /// The same, in a capsule.
    pub(crate) fn in_capsule(&self) -> Testbed {
        Testbed { capsule: Some(Capsule::of(self.machines.len())), ..self.clone() }
    }

    /// The same, with these kernels, in the order of the machines.
    pub(crate) fn with_kernels(&self, kernels: impl IntoIterator<Item = Kernel>) -> Testbed {
        let mut decided = Testbed { kernels_are_decided: true, ..self.clone() };
        for (machine, kernel) in decided.machines.iter_mut().zip(kernels) {
            machine.kernel = kernel;
        }
        decided
    }

    /// The content of `/etc/hosts` that all machines share.
    ///
    /// A machine's name and host name stand for its first address of each family; `MACHINE.NETWORK` stands for
    /// its addresses on that network.
    pub fn hosts_file(&self) -> String {
        let mut text = String::from(
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
        );
        for machine in &self.machines {
            let mut named = [false; 2];
            for interface in machine.interfaces() {
                for address in interface.addresses() {
                    text.push_str(&address.ip().to_string());
                    let family = usize::from(address.ip().is_ipv6());
                    if !std::mem::replace(&mut named[family], true) {
                        text.push_str(&format!(" {}", machine.name()));
                        if machine.hostname() != machine.name() {
                            text.push_str(&format!(" {}", machine.hostname()));
                        }
                    }
                    text.push_str(&format!(" {}.{}\n", machine.name(), interface.network()));
                }
            }
        }
        text
    }
}

/// How long the parts of a testbed's life may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    pub(super) start: Duration,
    pub(super) ready: Duration,
    pub(super) test: Duration,
    pub(super) layer_step: Duration,
    pub(super) stop: Duration,
}

impl Default for Deadlines {
    /// Start 10 s, ready 30 s, test 60 s, layer step 15 min, stop 5 s.
    fn default() -> Self {
        Deadlines {
            start: Duration::from_secs(10),
            ready: Duration::from_secs(30),
            test: Duration::from_secs(60),
            layer_step: Duration::from_secs(15 * 60),
            stop: Duration::from_secs(5),
        }
    }
}

impl Deadlines {
    /// From the order to make a machine until its agent answers.
    pub fn start(&self) -> Duration {
        self.start
    }

    /// From the start of a machine's services until all its `ready` conditions hold.
    pub fn ready(&self) -> Duration {
        self.ready
    }

    /// One test. Already in [`Test::timeout`].
    pub fn test(&self) -> Duration {
        self.test
    }

    /// One [`Step`] of an image.
    pub fn layer_step(&self) -> Duration {
        self.layer_step
    }

    /// From the request to stop until what is left is killed.
    pub fn stop(&self) -> Duration {
        self.stop
    }
}

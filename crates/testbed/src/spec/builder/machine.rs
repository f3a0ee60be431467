use super::{Field, Fields, duration_text, path_text};
use std::path::Path;
use std::time::Duration;

/// A machine being described.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct MachineBuilder(Fields);

impl MachineBuilder {
    pub(super) fn into_fields(self) -> Fields {
        self.0
    }

    /// Its image: the name of one, or whatever one may have as its base.
    pub fn image(mut self, image: &str) -> Self {
        self.0.set("image", image);
        self
    }

    /// Asks for a kernel of its own, in a virtual machine.
    pub fn own_kernel(mut self) -> Self {
        self.0.set("kernel", "own");
        self
    }

    /// Asks for the kernel that its image has.
    pub fn kernel_of_image(mut self) -> Self {
        self.0.put("kernel", "own", "image");
        self
    }

    /// Asks for this kernel, a bzImage or vmlinux, with the folder of its modules.
    pub fn kernel_file(mut self, path: impl AsRef<Path>, modules: Option<&Path>) -> Self {
        self.0.put("kernel", "own", path_text(path.as_ref()));
        if let Some(modules) = modules {
            self.0.put("kernel", "modules", path_text(modules));
        }
        self
    }

    /// Boots the whole system that is in its image, by systemd.
    pub fn systemd(mut self) -> Self {
        self.0.set("init", "systemd");
        self
    }

    /// It is a system of its own, which boots from a disk (its image) or a CD and has no agent.
    pub fn without_agent(mut self) -> Self {
        self.0.set("agent", false);
        self
    }

    /// Puts a file that holds a CD into its drive.
    pub fn cdrom(mut self, path: impl AsRef<Path>) -> Self {
        self.0.set("cdrom", path_text(path.as_ref()));
        self
    }

    /// Asks for the host's kernel, whatever it needs.
    pub fn shared_kernel(mut self) -> Self {
        self.0.set("kernel", "shared");
        self
    }

    /// Gives it a screen and a keyboard, and for these a kernel of its own.
    pub fn screen(mut self) -> Self {
        self.0.set("screen", true);
        self
    }

    /// Attaches it to a network, with the next free addresses.
    pub fn attach(self, network: &str) -> Self {
        self.interface_with(network, |interface| interface)
    }

    /// Attaches it to a network, with this address.
    pub fn interface(self, network: &str, address: &str) -> Self {
        self.interface_with(network, |interface| interface.address(address))
    }

    /// Attaches it to a network.
    pub fn interface_with(
        mut self,
        network: &str,
        describe: impl FnOnce(InterfaceBuilder) -> InterfaceBuilder,
    ) -> Self {
        self.0.put("interfaces", network, describe(InterfaceBuilder(Fields::default())).0);
        self
    }

    /// The router of its default route; call it again for one of the other family.
    pub fn gateway(mut self, address: &str) -> Self {
        self.0.extend("gateway", [address]);
        self
    }

    /// Adds a route.
    pub fn route(mut self, subnet: &str, router: &str) -> Self {
        self.0.put("routes", subnet, router);
        self
    }

    /// It forwards packets between its networks.
    pub fn router(mut self) -> Self {
        self.0.set("router", true);
        self
    }

    /// The host name inside.
    pub fn hostname(mut self, name: &str) -> Self {
        self.0.set("hostname", name);
        self
    }

    /// Puts a file or folder of the host in place.
    pub fn file(mut self, target: &str, source: impl AsRef<Path>) -> Self {
        self.0.put("files", target, path_text(source.as_ref()));
        self
    }

    /// Puts a file with this text and these permission bits in place.
    pub fn file_text(mut self, target: &str, content: &str, mode: u32) -> Self {
        let mut file = Fields::of("content", content);
        file.set("mode", format!("{mode:04o}"));
        self.0.put("files", target, file);
        self
    }

    /// Lets it see a file or folder of the host, live, and not change it.
    pub fn mount(mut self, target: &str, source: impl AsRef<Path>) -> Self {
        self.0.put("mounts", target, path_text(source.as_ref()));
        self
    }

    /// Lets it see and change a file or folder of the host, live.
    pub fn mount_writable(mut self, target: &str, source: impl AsRef<Path>) -> Self {
        let mut mount = Fields::of("source", path_text(source.as_ref()));
        mount.set("writable", true);
        self.0.put("mounts", target, mount);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.put("env", name, value);
        self
    }

    /// Gives it a variable of the host.
    pub fn pass_env(mut self, name: &str) -> Self {
        self.0.extend("pass-env", [name]);
        self
    }

    /// Runs a command from its start on.
    pub fn service(mut self, name: &str, run: &str) -> Self {
        self.0.put("services", name, run);
        self
    }

    /// Runs a command from its start on.
    pub fn service_with(
        mut self,
        name: &str,
        run: &str,
        describe: impl FnOnce(ServiceBuilder) -> ServiceBuilder,
    ) -> Self {
        self.0.put("services", name, describe(ServiceBuilder(Fields::of("run", run))).0);
        self
    }

    /// It is ready when a service has written a line with this text in it.
    pub fn ready_log(self, text: &str) -> Self {
        self.ready("log", text)
    }

    /// It is ready when somebody listens on this TCP port.
    pub fn ready_port(self, port: u16) -> Self {
        self.ready("port", i64::from(port))
    }

    /// It is ready when this text for a shell succeeds.
    pub fn ready_command(self, text: &str) -> Self {
        self.ready("command", text)
    }

    /// It is ready when this path exists.
    pub fn ready_file(self, path: &str) -> Self {
        self.ready("file", path)
    }

    fn ready(mut self, key: &str, value: impl Into<Field>) -> Self {
        self.0.append("ready", Fields::of(key, value));
        self
    }

    /// Starts it when this machine is ready.
    pub fn depends(mut self, machine: &str) -> Self {
        self.0.extend("depends", [machine]);
        self
    }

    /// Limits its memory: `"512M"`.
    pub fn memory(mut self, size: &str) -> Self {
        self.0.put("limits", "memory", size);
        self
    }

    /// Limits its use of processors.
    pub fn cpus(mut self, cpus: f64) -> Self {
        self.0.put("limits", "cpus", cpus);
        self
    }

    /// Limits its processes and threads.
    pub fn pids(mut self, pids: u32) -> Self {
        self.0.put("limits", "pids", i64::from(pids));
        self
    }

    /// Limits what it may change of its file system: `"256M"`.
    pub fn disk(mut self, size: &str) -> Self {
        self.0.set("disk", size);
        self
    }

    /// What its kernel must be able to do.
    pub fn needs(mut self, need: &str) -> Self {
        self.0.extend("needs", [need]);
        self
    }

    /// Sets a kernel parameter.
    pub fn sysctl(mut self, name: &str, value: &str) -> Self {
        self.0.put("sysctls", name, value);
        self
    }

    /// Publishes a port: `"127.0.0.1:8080"` or `"8080"` on the host.
    pub fn publish(mut self, host: &str, port: u16) -> Self {
        self.0.put("ports", host, i64::from(port));
        self
    }

    /// Programs on it may drive this copy of the testbed.
    pub fn control(mut self) -> Self {
        self.0.set("control", true);
        self
    }

    /// Programs on it may do this: `"exec:tester-*"`.
    pub fn right(mut self, right: &str) -> Self {
        self.0.extend("control", [right]);
        self
    }

    /// Makes so many alike.
    pub fn count(mut self, count: u32) -> Self {
        self.0.set("count", i64::from(count));
        self
    }
}

/// An interface being described.
#[derive(Clone, Debug)]
#[must_use]
pub struct InterfaceBuilder(Fields);

impl InterfaceBuilder {
    /// Adds an address.
    pub fn address(mut self, address: &str) -> Self {
        self.0.extend("address", [address]);
        self
    }

    /// No address, although the network has some.
    pub fn no_address(mut self) -> Self {
        self.0.set("address", Field::List(Vec::new()));
        self
    }

    /// Its address on the link.
    pub fn mac(mut self, mac: &str) -> Self {
        self.0.set("mac", mac);
        self
    }

    /// Its largest packet, in bytes.
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.0.set("mtu", i64::from(mtu));
        self
    }

    /// Its name inside.
    pub fn name(mut self, name: &str) -> Self {
        self.0.set("name", name);
        self
    }
}

/// A service being described.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServiceBuilder(Fields);

impl ServiceBuilder {
    /// The user it runs as.
    pub fn user(mut self, user: &str) -> Self {
        self.0.set("user", user);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.put("env", name, value);
        self
    }

    /// Its working folder.
    pub fn cwd(mut self, folder: &str) -> Self {
        self.0.set("cwd", folder);
        self
    }
}

/// Defaults being described.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct DefaultsBuilder {
    machine: MachineBuilder,
    deadlines: Fields,
}

impl DefaultsBuilder {
    pub(super) fn into_fields(self) -> Fields {
        let mut fields = self.machine.into_fields();
        fields.set("deadlines", self.deadlines);
        fields
    }

    /// What holds for every machine that does not say otherwise.
    pub fn machine(mut self, describe: impl FnOnce(MachineBuilder) -> MachineBuilder) -> Self {
        self.machine = describe(self.machine);
        self
    }

    /// How long a machine may take until its agent answers.
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.set("start", duration_text(deadline));
        self
    }

    /// How long a machine may take to become ready.
    pub fn ready_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.set("ready", duration_text(deadline));
        self
    }

    /// How long a test may take.
    pub fn test_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.set("test", duration_text(deadline));
        self
    }

    /// How long a layer of an image may take.
    pub fn layer_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.set("layer-step", duration_text(deadline));
        self
    }

    /// How long stopping may take.
    pub fn stop_deadline(mut self, deadline: Duration) -> Self {
        self.deadlines.set("stop", duration_text(deadline));
        self
    }
}

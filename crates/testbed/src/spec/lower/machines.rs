use super::images::Images;
use super::networks::NetworkDraft;
use super::section::Section;
use super::services::Lines;
use super::{Checker, graph};
use crate::spec::files::FileKind;
use crate::spec::model::{Control, Deadlines, GuestKernel, Init, Kernel, Limits, Machine};
use crate::spec::print_size;
use crate::spec::problem::{Place, Problem, ProblemKind, listed, quoted};
use crate::spec::raw::{Entry, Node, Value};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// So many machines one testbed can have.
const MOST_MACHINES: usize = 4096;

/// No machine runs in less memory, in bytes.
const LEAST_MEMORY: u64 = 1 << 20;

/// A machine and the places that problems with it are shown at.
pub(super) struct MachineDraft<'a> {
    pub(super) machine: Machine,
    /// Where its name is written.
    pub(super) at: &'a Place,
    pub(super) section: Section<'a>,
    /// Which of `count` it is, from 0 on.
    pub(super) index: u32,
    pub(super) count: u32,
    /// All its addresses could be read, so that what it reaches can be judged.
    pub(super) sound: bool,
}

impl Checker<'_> {
    pub(super) fn machines<'a>(
        &mut self,
        root: &Section<'a>,
        networks: &[NetworkDraft<'a>],
        images: &mut Images<'a>,
        testbed: &str,
        deadlines: &Deadlines,
    ) -> Vec<MachineDraft<'a>> {
        let table = root.get("machines");
        let entries = table.map(|node| node.entries()).unwrap_or_default();
        if entries.is_empty() && (table.is_some() || !root.has("machines")) {
            let place = table.map_or_else(|| root.place(), |node| node.place.clone());
            let problem = Problem::error(ProblemKind::MissingKey, &place, "the testbed has no machines");
            self.report(problem.help("write [machines.a] for one named `a`"));
        }
        let mut drafts = Vec::new();
        for entry in entries {
            self.machine_name(&entry.key, &entry.at);
            let section = root.item("machines", &entry.value).over(root.get("defaults"));
            let count = section.number("count").unwrap_or(1);
            if drafts.len() + count as usize > MOST_MACHINES {
                let message = format!("the testbed has more than {MOST_MACHINES} machines");
                self.error(ProblemKind::BadValue, &entry.at, message);
                break;
            }
            let machine = self.machine(entry, &section, images, deadlines);
            for index in 0..count {
                let mut machine = machine.clone();
                if section.has("count") {
                    machine.name = format!("{}-{}", entry.key, index + 1);
                }
                if !section.has("hostname") {
                    machine.hostname = machine.name.clone();
                }
                drafts.push(MachineDraft { machine, at: &entry.at, section, index, count, sound: true });
            }
        }
        self.unique_names(&drafts);
        self.depends(entries, &mut drafts);
        self.interfaces(&mut drafts, networks, testbed);
        self.routing(&mut drafts, networks);
        self.access(&mut drafts, networks);
        drafts
    }

    fn machine_name(&mut self, name: &str, place: &Place) {
        if name == "host" {
            let problem =
                Problem::error(ProblemKind::BadName, place, "`host` cannot be the name of a machine");
            self.report(problem.help("it stands for the host itself, where tests can run too"));
        } else {
            self.label("machine", name, place);
        }
    }

    /// What machines of one declaration have in common.
    fn machine(
        &mut self,
        entry: &Entry,
        section: &Section<'_>,
        images: &mut Images<'_>,
        deadlines: &Deadlines,
    ) -> Machine {
        if matches!(section.get("agent").map(|node| &node.value), Some(Value::Bool(false))) {
            return self.system(entry, section, images, deadlines);
        }
        let (image, place) = section.text("image").unwrap_or(("host", &entry.at));
        let image = self.machine_image(image, place, images).unwrap_or_default();
        self.needs_no_system(section, &image, images);
        let kernel = self.kernel(section, &image, images);
        let (kernel, init) = self.init(section, kernel);
        let services = self.services(section);
        let ready = self.ready(section, &entry.key, Lines::of(&services), deadlines);
        let limits = self.limits(section);
        let router = section.flag("router");
        let screen = section.flag("screen");
        let any_sysctl = kernel == Kernel::Own || screen;
        Machine {
            name: entry.key.clone(),
            declared: entry.key.clone(),
            hostname: self.hostname(section),
            image,
            kernel,
            guest_kernel: self.guest_kernel(section),
            interfaces: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            files: self.file_entries(section),
            mounts: self.mounts(section),
            env: self.env(&section.entries("env")),
            pass_env: self.pass_env(section),
            services,
            ready,
            depends: Arc::default(),
            disk: self.disk(section, &limits),
            limits,
            needs: self.needs(section),
            sysctls: self.sysctls(section, any_sysctl, router),
            router,
            screen,
            ports: Vec::new(),
            control: Control::None,
            init,
            agent: true,
            cdrom: None,
        }
    }

    fn hostname(&mut self, section: &Section<'_>) -> String {
        let Some((text, place)) = section.text("hostname") else { return String::new() };
        // 64 bytes is what sethostname(2) takes.
        if text.len() > 64 || !text.split('.').all(crate::spec::name::is_label) {
            let problem = Problem::error(
                ProblemKind::BadName,
                place,
                format!("{} cannot be a host name", quoted(text)),
            );
            self.report(problem.label("host labels with `.` between, at most 64 bytes in all"));
        }
        text.to_owned()
    }

    fn kernel(&mut self, section: &Section<'_>, image: &str, images: &Images<'_>) -> Kernel {
        let is_table = |node: &&Node| matches!(node.value, Value::Table(_));
        let own = section.get("kernel").filter(is_table).map(|node| ("own", &node.place));
        let screen = section.get("screen").filter(|_| section.flag("screen")).map(|node| &node.place);
        let (kernel, asks) = match own.or_else(|| section.text("kernel")) {
            Some(("own", place)) => (Kernel::Own, Some(place)),
            Some(("shared", place)) => {
                if let Some(screen) = screen {
                    let what = "a machine with the host's kernel has no screen";
                    let problem = Problem::error(ProblemKind::Misfit, screen, what);
                    let problem = problem.also(place, "this asks for the host's kernel");
                    self.report(problem.help("write `kernel = \"own\"`, or leave it away"));
                }
                (Kernel::Shared, None)
            }
            _ => (Kernel::Any, screen),
        };
        if let Some(place) = asks.filter(|_| images.is_host(image)) {
            let what = match kernel {
                Kernel::Own => "the host's root cannot run on a kernel of its own",
                _ => "the host's root cannot run on a kernel of its own, which a screen needs",
            };
            let mut problem = Problem::error(ProblemKind::Misfit, place, what);
            if let Some((_, at)) = section.text("image") {
                problem = problem.also(at, "this image is the host's root");
            }
            self.report(problem.help("give the machine another image, for example `debian:bookworm`"));
        }
        kernel
    }

    /// What is process 1, and the kernel that this takes.
    fn init(&mut self, section: &Section<'_>, kernel: Kernel) -> (Kernel, Init) {
        let Some((_, place)) = section.text("init") else { return (kernel, Init::Agent) };
        if kernel == Kernel::Shared {
            let problem = Problem::error(
                ProblemKind::Misfit,
                place,
                "`init` does not fit a machine on the host's kernel",
            );
            self.report(problem.help("leave `kernel = \"shared\"` away: it needs one of its own"));
        }
        (Kernel::Own, Init::Systemd)
    }

    fn guest_kernel(&mut self, section: &Section<'_>) -> GuestKernel {
        let Some(node) = section.get("kernel").filter(|node| matches!(node.value, Value::Table(_))) else {
            return GuestKernel::Ours;
        };
        let kernel = section.sub("kernel");
        let modules = kernel.text("modules");
        let Some((own, place)) = kernel.text("own") else {
            if !kernel.has("own") {
                let problem =
                    Problem::error(ProblemKind::MissingKey, &node.place, "`kernel` does not say which");
                self.report(
                    problem.help("write kernel = { own = \"image\" }, or the path of a bzImage or vmlinux"),
                );
            }
            return GuestKernel::Ours;
        };
        if own == "image" {
            if let Some((_, place)) = modules {
                let problem =
                    Problem::error(ProblemKind::Misfit, place, "`modules` does not fit the image's kernel");
                self.report(problem.help("an image has the modules of its kernel in /lib/modules"));
            }
            return GuestKernel::OfImage;
        }
        let path = self.existing_as(own, place, false);
        let modules = modules.and_then(|(text, place)| self.existing_as(text, place, true));
        path.map_or(GuestKernel::Ours, |path| GuestKernel::File { path, modules })
    }

    /// A file, or a folder, that must be there.
    fn existing_as(&mut self, text: &str, place: &Place, folder: bool) -> Option<PathBuf> {
        let (path, kind) = self.existing(text, place)?;
        if (kind == FileKind::Folder) != folder {
            let what = if folder { "no folder" } else { "a folder" };
            self.error(ProblemKind::BadValue, place, format!("{} is {what}", quoted(text)));
        }
        Some(path)
    }

    fn pass_env(&mut self, section: &Section<'_>) -> Vec<String> {
        let names = section.texts("pass-env");
        names.iter().for_each(|(name, place)| self.env_name(name, place));
        names.into_iter().map(|(name, _)| name.to_owned()).collect()
    }

    pub(super) fn limits(&mut self, section: &Section<'_>) -> Limits {
        let limits = section.sub("limits");
        let memory = self.size(&limits, "memory");
        if let (Some(memory), Some((_, place))) = (memory, limits.text("memory"))
            && memory < LEAST_MEMORY
        {
            let message = format!("no machine runs in {} of memory", print_size(memory));
            self.report(
                Problem::error(ProblemKind::BadValue, place, message).help("write \"64M\", for example"),
            );
        }
        let cpus = limits.get("cpus").and_then(|node| {
            let cpus = match node.value {
                Value::Integer(number) => number as f64,
                Value::Float(number) => number,
                _ => return None,
            };
            if (0.001..=4096.0).contains(&cpus) {
                // In range of the type by the check above.
                return Some((cpus * 1000.0).round() as u32);
            }
            self.error(
                ProblemKind::BadValue,
                &node.place,
                format!("{cpus} is not from 0.001 to 4096 processors"),
            );
            None
        });
        Limits { memory, cpu_milli: cpus, pids: limits.number("pids") }
    }

    fn disk(&mut self, section: &Section<'_>, limits: &Limits) -> Option<u64> {
        let disk = self.size(section, "disk")?;
        let place = section.text("disk")?.1;
        if let Some(memory) = limits.memory
            && disk >= memory
        {
            let message =
                format!("the disk of {} is not below the memory of {}", print_size(disk), print_size(memory));
            let problem = Problem::warning(ProblemKind::Misfit, place, message);
            self.report(
                problem.help("a machine's files lie in its memory: when they fill it, its programs die"),
            );
        }
        Some(disk)
    }

    fn sysctls(&mut self, section: &Section<'_>, any: bool, router: bool) -> Vec<(String, String)> {
        let mut sysctls: Vec<(String, String)> = Vec::new();
        for entry in section.entries("sysctls") {
            let name = entry.key.replace('/', ".");
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if name.is_empty() || !name.chars().all(legal) || name.split('.').any(str::is_empty) {
                let message = format!("{} cannot be the name of a kernel parameter", quoted(&entry.key));
                self.report(
                    Problem::error(ProblemKind::BadName, &entry.at, message)
                        .help("write `net.ipv4.ip_forward`, for example"),
                );
            } else if !any && !is_namespaced(&name) {
                let message = format!("the kernel parameter {} is the host's", quoted(&name));
                let problem = Problem::error(ProblemKind::Misfit, &entry.at, message);
                self.report(problem.help("a machine that sets it needs kernel = \"own\""));
            }
            let value = match &entry.value.value {
                Value::Text(text) => text.clone(),
                Value::Integer(number) => number.to_string(),
                Value::Bool(value) => u8::from(*value).to_string(),
                _ => continue,
            };
            if router && FORWARDING.contains(&name.as_str()) && value != "1" {
                let message = format!("{} does not fit `router = true`", quoted(&name));
                self.error(ProblemKind::Misfit, &entry.value.place, message);
            }
            sysctls.push((name, value));
        }
        if router {
            for name in FORWARDING {
                if sysctls.iter().all(|(known, _)| known != name) {
                    sysctls.push((name.to_owned(), "1".to_owned()));
                }
            }
        }
        sysctls
    }

    /// A machine's name and its host name stand for it alone.
    fn unique_names(&mut self, drafts: &[MachineDraft<'_>]) {
        let mut taken: HashMap<&str, (&str, &Place)> = HashMap::new();
        for draft in drafts {
            if let Some((_, before)) = taken.insert(&draft.machine.name, (&draft.machine.name, draft.at)) {
                let message = format!("the machine {} is there twice", quoted(&draft.machine.name));
                self.report(
                    Problem::error(ProblemKind::Duplicate, draft.at, message).also(before, "first here"),
                );
            }
        }
        for draft in drafts.iter().filter(|draft| !draft.machine.hostname.is_empty()) {
            let Machine { name, hostname, .. } = &draft.machine;
            let place = draft.section.text("hostname").map_or(draft.at, |(_, place)| place);
            let Some((other, before)) =
                taken.insert(hostname, (name, place)).filter(|(other, _)| other != name)
            else {
                continue;
            };
            let message = format!("{} and {} have the same host name", quoted(other), quoted(name));
            let problem = Problem::error(ProblemKind::Duplicate, place, message);
            self.report(if before == place { problem } else { problem.also(before, "the other one") });
        }
    }

    fn depends(&mut self, entries: &[Entry], drafts: &mut [MachineDraft<'_>]) {
        let declared: HashMap<&str, usize> =
            entries.iter().enumerate().map(|(number, entry)| (entry.key.as_str(), number)).collect();
        // What a name stands for: of a declaration all its machines, of a machine that one. And which declaration.
        let mut stands_for: HashMap<&str, (usize, Vec<&str>)> = HashMap::new();
        for (name, number) in &declared {
            stands_for.insert(name, (*number, Vec::new()));
        }
        for MachineDraft { machine, .. } in drafts.iter() {
            let Some((number, all)) = stands_for.get_mut(machine.declared.as_str()) else { continue };
            all.push(&machine.name);
            let number = *number;
            stands_for.entry(&machine.name).or_insert_with(|| (number, vec![&machine.name]));
        }
        let mut needs = vec![Vec::new(); entries.len()];
        let mut places: HashMap<(usize, usize), &Place> = HashMap::new();
        let mut depends: Vec<Arc<[String]>> = vec![Arc::default(); entries.len()];
        for draft in drafts.iter().filter(|draft| draft.index == 0) {
            let Some(&me) = declared.get(draft.machine.declared.as_str()) else { continue };
            let from_defaults = entries[me].value.get("depends").is_none();
            let mut seen = HashSet::new();
            let mut before = Vec::new();
            for (name, place) in draft.section.texts("depends") {
                let Some((other, machines)) = stands_for.get(name) else {
                    self.unknown("machine", name, place, entries.iter().map(|entry| entry.key.as_str()));
                    continue;
                };
                // What every machine depends on does not depend on itself.
                if from_defaults && *other == me {
                    continue;
                }
                if places.insert((me, *other), place).is_none() {
                    needs[me].push(*other);
                }
                before.extend(
                    machines.iter().filter(|name| seen.insert(**name)).map(|name| (*name).to_owned()),
                );
            }
            depends[me] = before.into();
        }
        let numbers: Vec<Option<usize>> =
            drafts.iter().map(|draft| declared.get(draft.machine.declared.as_str()).copied()).collect();
        for (draft, number) in drafts.iter_mut().zip(numbers) {
            if let Some(number) = number {
                draft.machine.depends = Arc::clone(&depends[number]);
            }
        }
        for cycle in graph::sort(&needs).cycles {
            let name = |number: usize| entries[number].key.as_str();
            let next = |at: usize| cycle[(at + 1) % cycle.len()];
            let message = match cycle.as_slice() {
                [one] => format!("the machine {} depends on itself", quoted(name(*one))),
                _ => format!(
                    "the machines {} depend on each other",
                    listed(cycle.iter().map(|number| name(*number)))
                ),
            };
            let place = |at: usize| places[&(cycle[at], next(at))];
            let says = |at: usize| format!("`{}` waits for `{}`", name(cycle[at]), name(next(at)));
            let mut problem = Problem::error(ProblemKind::Cycle, place(0), message).label(says(0));
            for at in 1..cycle.len() {
                problem = problem.also(place(at), says(at));
            }
            self.report(problem.help("one of them must start without the other"));
        }
    }
}

/// What a router sets.
const FORWARDING: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];

/// Whether each network or IPC namespace has a value of its own (namespaces(7), sysctl/kernel.rst).
fn is_namespaced(name: &str) -> bool {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.shm_next_id",
    ];
    name.starts_with("net.") || name.starts_with("fs.mqueue.") || IPC.contains(&name)
}

//! Machines without an agent: systems on their own, of which only the outside is known.

use super::Checker;
use super::images::Images;
use super::section::Section;
use super::services::{BEYOND_CONSOLE, Lines};
use crate::spec::files::FileKind;
use crate::spec::model::{Base, Control, Deadlines, GuestKernel, Init, Kernel, Machine};
use crate::spec::problem::{Problem, ProblemKind, quoted};
use crate::spec::raw::{Entry, Node, Value};
use std::path::PathBuf;
use std::sync::Arc;

/// What an agent does, or what it tells.
const BY_AGENT: [&str; 14] = [
    "files", "mounts", "env", "pass-env", "services", "sysctls", "router", "routes", "gateway", "control",
    "ports", "needs", "hostname", "init",
];

impl Checker<'_> {
    /// A machine with `agent = false`.
    pub(super) fn system(
        &mut self,
        entry: &Entry,
        section: &Section<'_>,
        images: &mut Images<'_>,
        deadlines: &Deadlines,
    ) -> Machine {
        // What holds for every machine holds for those that it can hold for.
        let own = section.own();
        for key in BY_AGENT {
            if let Some(node) = own.get(key) {
                let message = format!("`{key}` does not fit a machine without an agent");
                let problem = Problem::error(ProblemKind::Misfit, &node.place, message);
                self.report(problem.help("its system sees to that itself"));
            }
        }
        if let Some(("shared", place)) = own.text("kernel") {
            let message = "a machine without an agent does not run on the host's kernel";
            self.report(Problem::error(ProblemKind::Misfit, place, message).help("leave `kernel` away"));
        }
        if let Some(node) = own.get("kernel").filter(|node| matches!(node.value, Value::Table(_))) {
            let message = "a machine without an agent has the kernel that is on its disk";
            self.report(
                Problem::error(ProblemKind::Misfit, &node.place, message).help("leave `kernel` away"),
            );
        }
        let fits = |node: &Node| BEYOND_CONSOLE.iter().all(|key| node.get(key).is_none());
        let of_all = section.get("ready").is_some_and(|node| match &node.value {
            Value::List(items) => items.iter().all(fits),
            _ => fits(node),
        });
        let ready = if of_all { section } else { &own };
        let image = self.disk_image(section, &entry.at, images).unwrap_or_default();
        let limits = self.limits(section);
        Machine {
            name: entry.key.clone(),
            declared: entry.key.clone(),
            hostname: String::new(),
            image,
            kernel: Kernel::Own,
            guest_kernel: GuestKernel::Ours,
            interfaces: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            files: Vec::new(),
            mounts: Vec::new(),
            env: Vec::new(),
            pass_env: Vec::new(),
            services: Vec::new(),
            ready: self.ready(ready, &entry.key, Lines::Console, deadlines),
            depends: Arc::default(),
            disk: self.size(section, "disk"),
            limits,
            needs: Vec::new(),
            sysctls: Vec::new(),
            router: false,
            screen: section.flag("screen"),
            ports: Vec::new(),
            control: Control::None,
            init: Init::Agent,
            agent: false,
            cdrom: self.cdrom(section),
        }
    }

    fn cdrom(&mut self, section: &Section<'_>) -> Option<PathBuf> {
        let (text, place) = section.text("cdrom")?;
        let (path, kind) = self.existing(text, place)?;
        if kind == FileKind::Folder {
            let problem =
                Problem::error(ProblemKind::BadValue, place, format!("{} is a folder", quoted(text)));
            self.report(problem.help("write the path of a file that holds a CD: \"x.iso\""));
        }
        Some(path)
    }

    /// A machine with an agent has nothing of those without.
    pub(super) fn needs_no_system(&mut self, section: &Section<'_>, image: &str, images: &Images<'_>) {
        const HELP: &str = "write `agent = false`: what boots from it is a system on its own";
        if let (Some(Base::Disk(..)), Some((text, place))) = (images.lowest(image), section.text("image")) {
            let message = format!("there is no agent on the disk {}", quoted(text));
            self.report(Problem::error(ProblemKind::Misfit, place, message).help(HELP));
        }
        if let Some((_, place)) = section.own_text("cdrom") {
            let message = "`cdrom` does not fit a machine with an agent";
            self.report(Problem::error(ProblemKind::Misfit, place, message).help(HELP));
        }
    }
}

use super::Checker;
use super::images::Images;
use super::machines::MachineDraft;
use super::section::Section;
use crate::spec::model::{Capsule, Init, Kernel};
use crate::spec::print_size;
use crate::spec::problem::{Place, Problem, ProblemKind};
use crate::spec::raw::Value;

/// A kernel and its launcher fit in, in bytes.
const LEAST_MEMORY: u64 = 128 << 20;

impl Checker<'_> {
    /// The capsule, if the file asks for one, and whether all machines can be in it.
    pub(super) fn capsule(
        &mut self,
        root: &Section<'_>,
        drafts: &[MachineDraft<'_>],
        images: &Images<'_>,
    ) -> Option<Capsule> {
        let asked = root.get("capsule")?;
        let section = root.sub("capsule");
        if matches!(asked.value, Value::Bool(false)) {
            return None;
        }
        let usual = Capsule::of(drafts.len());
        let memory = self.size(&section, "memory").unwrap_or(usual.memory);
        if let Some((_, place)) = section.text("memory").filter(|_| memory < LEAST_MEMORY) {
            let message = format!("no capsule runs in {} of memory", print_size(memory));
            let problem = Problem::error(ProblemKind::BadValue, place, message);
            self.report(problem.help(format!("it needs {} at least", print_size(LEAST_MEMORY))));
        }
        for draft in drafts.iter().filter(|draft| draft.index == 0) {
            self.fits_capsule(draft, &asked.place, images);
        }
        Some(Capsule { memory, processors: section.number("cpus").unwrap_or(usual.processors) })
    }

    fn fits_capsule(&mut self, draft: &MachineDraft<'_>, asked: &Place, images: &Images<'_>) {
        let misfit = |place: &Place, message: &str, help: &str| {
            Problem::error(ProblemKind::Misfit, place, message)
                .also(asked, "the testbed is a capsule")
                .help(help)
        };
        if let Some(kernel) = draft.section.get("kernel").filter(|_| draft.machine.kernel() == Kernel::Own) {
            let help = "leave it away: all machines of a capsule have its kernel";
            self.report(misfit(&kernel.place, "a machine in a capsule has no kernel of its own", help));
        }
        if let Some(init) = draft.section.get("init").filter(|_| draft.machine.init() != Init::Agent) {
            let help = "leave it away, and start what is wanted by `services`";
            self.report(misfit(&init.place, "a machine in a capsule boots no system", help));
        }
        if draft.machine.has_screen()
            && let Some(flag) = draft.section.get("screen")
        {
            let help = "leave it away: all machines of a capsule have its kernel";
            self.report(misfit(&flag.place, "a machine in a capsule has no screen", help));
        }
        if let Some(flag) = draft.section.get("agent").filter(|_| !draft.machine.has_agent()) {
            let help = "leave it away: all that a capsule holds is reached by agents";
            self.report(misfit(&flag.place, "a machine in a capsule has an agent", help));
        }
        if let Some(mount) = draft.section.entries("mounts").first() {
            let help = "copy by `files` what it mounts";
            self.report(misfit(&mount.at, "no folder of the host can be live in a capsule", help));
        }
        if images.is_host(draft.machine.image()) {
            let place = draft.section.text("image").map_or(draft.at, |(_, place)| place);
            let help = "give the machine another image, for example `debian:bookworm`";
            self.report(misfit(place, "the host's root cannot be in a capsule", help));
        }
    }
}

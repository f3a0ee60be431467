//! Whose kernel each machine runs on. All that is made of a testbed goes by what is decided here.

use super::capability::host_for;
use super::{Host, Obstacle, PlannedKernel};
use crate::spec::{Base, Init, Kernel, Machine, Need, Testbed};
use std::borrow::Cow;
use std::sync::Arc;
use testbed_agent::{Fault, FaultKind};

/// The kernel that a machine gets, why, and what keeps it from getting one that will do.
pub(super) struct Choice {
    pub(super) kernel: PlannedKernel,
    pub(super) why: String,
    pub(super) obstacle: Option<Obstacle>,
}

/// The testbed with a kernel decided for each machine on this host, if that is still to be done.
///
/// # Errors
/// As for [`decide_kernels`].
pub fn decide_kernels_here(testbed: &Arc<Testbed>) -> Result<Arc<Testbed>, Fault> {
    let asks = |machine: &Machine| {
        let asks_here = machine.has_screen() || !machine.needs().is_empty();
        testbed.capsule().is_some() || machine.kernel() == Kernel::Own || asks_here
    };
    if testbed.has_decided_kernels() || !testbed.machines().iter().any(asks) {
        return Ok(Arc::clone(testbed));
    }
    decide_kernels(testbed, &host_for(testbed))
}

/// The testbed with a kernel decided for each machine on a host: [`Kernel::Shared`] or [`Kernel::Own`].
///
/// # Errors
/// [`FaultKind::Unsupported`], with the way out, when no kernel will do for a machine.
pub fn decide_kernels(testbed: &Arc<Testbed>, host: &Host) -> Result<Arc<Testbed>, Fault> {
    if testbed.has_decided_kernels() {
        return Ok(Arc::clone(testbed));
    }
    let testbed = &*with_capsule(testbed, host);
    let decide = |machine: &Machine| {
        let choice = Choice::new(machine, testbed, host);
        match choice.obstacle {
            None => Ok(choice.kernel.into()),
            Some(obstacle) => {
                let fault = Fault::new(FaultKind::Unsupported, format!("make it here: {}", obstacle.why));
                Err(fault.on(obstacle.machine).hint(obstacle.hint))
            }
        }
    };
    let kernels = testbed.machines().iter().map(decide).collect::<Result<Vec<Kernel>, _>>()?;
    Ok(Arc::new(testbed.with_kernels(kernels)))
}

impl From<PlannedKernel> for Kernel {
    fn from(kernel: PlannedKernel) -> Kernel {
        match kernel {
            // In a capsule they share its kernel.
            PlannedKernel::Shared | PlannedKernel::Capsule => Kernel::Shared,
            PlannedKernel::Own => Kernel::Own,
        }
    }
}

impl Choice {
    pub(super) fn new(machine: &Machine, testbed: &Testbed, host: &Host) -> Choice {
        if testbed.capsule().is_some() {
            return Choice::in_capsule(machine, host);
        }
        let missing = host.lacks(machine.needs());
        let lacks = format!("the host's kernel {} has no {}", host.kernel, missing.join(", "));
        let beyond = beyond_own_kernels(machine, testbed, host);
        let obstacle = |why: String, hint: String| Obstacle { machine: machine.name().to_owned(), why, hint };
        let asked = if machine.has_agent() { "the file asks for it" } else { "it is a system on its own" };
        let asked = asked.to_owned();
        let (kernel, why, obstacle) = match machine.kernel() {
            Kernel::Own => {
                let obstacle = beyond.map(|(what, _)| {
                    obstacle(what.to_owned(), "leave `kernel` away, if the host's kernel will do".to_owned())
                });
                (PlannedKernel::Own, asked, obstacle)
            }
            Kernel::Shared if missing.is_empty() => (PlannedKernel::Shared, asked, None),
            Kernel::Shared => {
                let hint = "load its modules, or leave `kernel = \"shared\"` away";
                (PlannedKernel::Shared, asked, Some(obstacle(lacks, hint.to_owned())))
            }
            Kernel::Any if machine.has_screen() => {
                let why = "it has a screen".to_owned();
                let obstacle = beyond.map(|(what, instead)| {
                    obstacle(format!("{why}, and {what}"), format!("leave `screen` away, or {instead}"))
                });
                (PlannedKernel::Own, why, obstacle)
            }
            Kernel::Any if missing.is_empty() => {
                let needs: Vec<&str> = machine.needs().iter().map(Need::as_str).collect();
                let why = match &needs[..] {
                    [] => "it needs nothing special".to_owned(),
                    needs => format!("the host's kernel has {}", needs.join(", ")),
                };
                (PlannedKernel::Shared, why, None)
            }
            Kernel::Any => {
                let obstacle = beyond.map(|(what, instead)| {
                    obstacle(format!("{lacks}, and {what}"), format!("load its modules, or {instead}"))
                });
                (PlannedKernel::Own, lacks, obstacle)
            }
        };
        Choice { kernel, why, obstacle }
    }

    /// Whether it can be in a capsule by its file is checked with that.
    fn in_capsule(machine: &Machine, host: &Host) -> Choice {
        let obstacle = (!host.own_kernels).then(|| Obstacle {
            machine: machine.name().to_owned(),
            why: NO_OWN_KERNELS.to_owned(),
            hint: "use a host with x86-64, or leave `capsule` away, if the host's kernel will do".to_owned(),
        });
        let missing = host.lacks(machine.needs());
        let why = match &missing[..] {
            [] => "the testbed is a capsule".to_owned(),
            missing => format!("the testbed is a capsule; the host's kernel has no {}", missing.join(", ")),
        };
        Choice { kernel: PlannedKernel::Capsule, why, obstacle }
    }
}

const NO_OWN_KERNELS: &str = "machines have no kernels of their own on this kind of processor";

/// The testbed, in a capsule if that is better for it: where several machines need what the host's kernel lacks, one kernel
/// does for all, as long as all of them can be in a capsule.
pub(super) fn with_capsule<'a>(testbed: &'a Testbed, host: &Host) -> Cow<'a, Testbed> {
    let lacks =
        |machine: &&Machine| machine.kernel() == Kernel::Any && !host.lacks(machine.needs()).is_empty();
    let fits = |machine: &Machine| {
        let base = base_of(machine.image(), testbed);
        let is_plain =
            machine.kernel() != Kernel::Own && machine.has_agent() && machine.init() == Init::Agent;
        is_plain && machine.mounts().is_empty() && base != Some(&Base::Host)
    };
    let machines = testbed.machines();
    let is_better = testbed.capsule().is_none()
        && host.own_kernels
        && machines.iter().filter(lacks).nth(1).is_some()
        && machines.iter().all(fits);
    if is_better { Cow::Owned(testbed.in_capsule()) } else { Cow::Borrowed(testbed) }
}

/// What keeps a machine from having a kernel of its own, and what to do instead.
fn beyond_own_kernels(
    machine: &Machine,
    testbed: &Testbed,
    host: &Host,
) -> Option<(&'static str, &'static str)> {
    if !host.own_kernels {
        return Some((NO_OWN_KERNELS, "use a host with x86-64"));
    }
    if base_of(machine.image(), testbed) == Some(&Base::Host) {
        let other = "give the machine another image, for example `debian:bookworm`";
        return Some(("the host's root cannot run on a kernel of its own", other));
    }
    let has_mounts = !machine.mounts().is_empty();
    has_mounts.then_some((
        "machines with kernels of their own have no live mounts yet",
        "copy by `files` what it mounts",
    ))
}

/// What lies below all layers of an image.
pub(crate) fn base_of<'a>(image: &str, testbed: &'a Testbed) -> Option<&'a Base> {
    let mut image = testbed.image(image)?;
    // The model has no circles.
    while let Base::Image(below) = image.base() {
        image = testbed.image(below)?;
    }
    Some(image.base())
}

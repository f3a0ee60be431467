//! What machines with kernels of their own run on.

use super::{Finding, Need, Options};
use crate::host::{Choice, KVM, known_accelerator};
use crate::image::{self, Store};
use crate::machine::Accelerator;
use std::path::Path;

const AREA: &str = "own kernels";

pub(super) fn examine(options: &Options) -> Vec<Finding> {
    if !cfg!(target_arch = "x86_64") {
        let effect = "no machine can have one";
        return vec![Finding::lacking(AREA, "processor", Need::Some, std::env::consts::ARCH, effect)];
    }
    let options_of_image = image::Options { mirror: options.mirror.clone(), ..image::Options::default() };
    let store = options.store.as_deref().filter(|folder| folder.is_dir());
    let found = store.and_then(|folder| Store::open(folder).ok()?.own_kernels(&options_of_image).ok()?);
    match found {
        None => {
            // Whether it can be opened is known without an image.
            let choice = known_accelerator(Path::new(KVM), Path::new(""), "");
            vec![
                Finding::good(
                    AREA,
                    "hypervisor",
                    "comes as an image, which the first such machine has built",
                ),
                accelerator(choice),
            ]
        }
        Some(found) => {
            let fact = format!(
                "QEMU {} from an image of ours; it maps the memory of templates for reading only, and each guest writes to \
                 pages of its own",
                found.hypervisor
            );
            vec![Finding::good(AREA, "hypervisor", fact), accelerator(found.choice)]
        }
    }
}

fn accelerator(choice: Option<Choice>) -> Finding {
    let name = "accelerator";
    match choice {
        None => {
            let fact =
                format!("{KVM} can be opened; the first such machine finds out whether guests start with it");
            Finding::good(AREA, name, fact)
        }
        Some(Choice { accelerator: Accelerator::Kvm(device), .. }) => {
            Finding::good(AREA, name, format!("KVM: a guest has started with {}", device.display()))
        }
        Some(Choice { why_not, .. }) => {
            let effect =
                "machines with a kernel of their own are emulated, and their programs many times slower";
            let found =
                Finding::lacking(AREA, name, Need::Some, format!("emulation (TCG): {why_not}"), effect);
            found.remedy(if why_not.contains("may not open") {
                "add this user to the group of /dev/kvm"
            } else {
                "turn on virtualisation in the firmware, or nested virtualisation in the host"
            })
        }
    }
}

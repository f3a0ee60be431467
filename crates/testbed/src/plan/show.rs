use super::{Plan, PlannedCopy, PlannedImage, PlannedKernel, PlannedMachine, PlannedNetwork};
use crate::spec::print_duration;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let tests = self.copies.iter().map(|copy| copy.tests.len()).sum();
        writeln!(
            f,
            "{}: {}, {}, {}, {} in {}",
            self.testbed,
            counted(self.images.len(), "image", "images"),
            counted(self.networks.len(), "network", "networks"),
            counted(self.machines.len(), "machine", "machines"),
            counted(tests, "test", "tests"),
            counted(self.copies.len(), "copy", "copies"),
        )?;
        section(f, "images", &self.images, image)?;
        section(f, "networks", &self.networks, network)?;
        section(f, "machines", &self.machines, machine)?;
        let mut number = 0;
        section(f, "tests", &self.copies, |f, copy| {
            number += 1;
            tests_of(f, number, copy)
        })?;
        section(f, "skipped", &self.skipped, |f, test| writeln!(f, "  {}: {}", line(&test.id), test.why))?;
        section(f, "cannot be made here", &self.obstacles, |f, obstacle| {
            writeln!(f, "  {}: {}\n    {}", obstacle.machine, obstacle.why, obstacle.hint)
        })
    }
}

fn section<T>(
    f: &mut Formatter<'_>,
    title: &str,
    items: &[T],
    mut show: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    items.iter().try_for_each(|item| show(f, item))
}

fn image(f: &mut Formatter<'_>, image: &PlannedImage) -> fmt::Result {
    writeln!(f, "  {}: {} ({})", image.name, image.base, image.why)?;
    image.layers.iter().try_for_each(|layer| writeln!(f, "    + {} ({})", line(&layer.step), layer.why))
}

fn network(f: &mut Formatter<'_>, network: &PlannedNetwork) -> fmt::Result {
    let subnets = if network.subnets.is_empty() { "raw".to_owned() } else { network.subnets.join(", ") };
    write!(f, "  {}: {subnets}, mtu {}", network.name, network.mtu)?;
    if !network.uplink.is_empty() {
        write!(f, ", way out by {}", network.uplink.join(", "))?;
    }
    let machines =
        if network.machines.is_empty() { "nobody".to_owned() } else { network.machines.join(", ") };
    writeln!(f, "; on it: {machines}")
}

fn machine(f: &mut Formatter<'_>, machine: &PlannedMachine) -> fmt::Result {
    let kernel = match machine.kernel {
        PlannedKernel::Shared => "shared",
        PlannedKernel::Own => "own",
        PlannedKernel::Capsule => "the capsule's",
    };
    writeln!(f, "  {}: image {}, {kernel} kernel ({})", machine.name, machine.image, machine.why)?;
    if !machine.after.is_empty() {
        writeln!(f, "    starts after {}", machine.after.join(", "))?;
    }
    for interface in &machine.interfaces {
        let addresses = if interface.addresses.is_empty() {
            "no address".to_owned()
        } else {
            interface.addresses.join(", ")
        };
        writeln!(f, "    {} on {}: {addresses}, {}", interface.name, interface.network, interface.mac)?;
    }
    for (title, items) in
        [("gateway", &machine.gateways), ("services", &machine.services), ("limits", &machine.limits)]
    {
        if !items.is_empty() {
            writeln!(f, "    {title} {}", items.join(", "))?;
        }
    }
    Ok(())
}

fn tests_of(f: &mut Formatter<'_>, number: usize, copy: &PlannedCopy) -> fmt::Result {
    writeln!(f, "  copy {number}, {}", copy.why)?;
    copy.tests.iter().try_for_each(|test| {
        let timeout = print_duration(Duration::from_millis(test.timeout_ms));
        let expect = if test.expect == "failure" { ", expected to fail" } else { "" };
        writeln!(f, "    {} on {}, at most {timeout}{expect}", line(&test.id), test.on)
    })
}

/// The first line of a text, without characters that would move a terminal's cursor.
fn line(text: &str) -> String {
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    let first: String = first
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if lines.next().is_some() { format!("{first} …") } else { first }
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

//! What networks are made of, and what machines may find in a kernel.

use super::{Finding, Need, Prober};
use testbed_agent::launch::Probe;

const AREA: &str = "networks";
const TUN: &str = "/dev/net/tun";

/// What a file asks for with `needs`, and the kernel's word for it.
const LINKS: &[(&str, &str)] = &[
    ("bonding", "bond"),
    ("bridge", "bridge"),
    ("dummy", "dummy"),
    ("ipvlan", "ipvlan"),
    ("veth", "veth"),
    ("vlan", "vlan"),
    ("vrf", "vrf"),
    ("vxlan", "vxlan"),
    ("wireguard", "wireguard"),
];

pub(super) fn examine(prober: &Prober) -> Vec<Finding> {
    let tap = prober.attempt(Probe::Tap);
    let ifb = prober.attempt(Probe::Ifb);
    let both_missing = tap.is_err() && ifb.is_err();
    let mut found = Vec::new();
    let effect =
        "networks are made of ifb devices: no `uplink`, no machines that bridge, no tun devices inside";
    let tun = Finding::of(AREA, TUN, tap, Need::Some, "makes TAP devices", effect);
    found.push(if tun.effect.is_some() { tun.remedy(tun_remedy()) } else { tun });
    let need = if both_missing { Need::All } else { Need::Some };
    let effect = if both_missing { "no network can be made" } else { "networks need /dev/net/tun" };
    found.push(Finding::of(AREA, "ifb", ifb, need, "can be made", effect));
    let needed = [
        ("macvlan", Probe::Macvlan, Need::All, "ports can be made", "no network can be made"),
        (
            "packet sockets",
            Probe::PacketSocket,
            Need::Some,
            "can be opened",
            "no captures, and no packets of tests that fail",
        ),
        ("nftables", Probe::Nftables, Need::Some, "tables can be made", "no firewalls in machines"),
    ];
    for (name, probe, need, fact, effect) in needed {
        found.push(Finding::of(AREA, name, prober.attempt(probe), need, fact, effect));
    }
    let optional = |name: &str, probe: Probe| {
        let effect =
            format!("machines with `needs = [\"{name}\"]` have kernels of their own, tests are skipped");
        Finding::of(AREA, name, prober.attempt(probe), Need::Some, "there", &effect)
    };
    found.extend(LINKS.iter().map(|(name, kind)| optional(name, Probe::Link((*kind).to_owned()))));
    found.push(optional("netem", Probe::Discipline("netem".to_owned())));
    for lack in found.iter_mut().filter(|found| found.effect.is_some() && found.remedy.is_none()) {
        lack.remedy = Some(format!("load the module for {}, or use a kernel that has it", lack.name));
    }
    found
}

fn tun_remedy() -> String {
    match std::fs::File::options().read(true).write(true).open(TUN) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => format!(
            "chmod 0666 {TUN}, as udev has it by default; to last: KERNEL==\"tun\", MODE=\"0666\" in /etc/udev/rules.d"
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "modprobe tun; in a container, pass /dev/net/tun in".to_owned()
        }
        _ => "modprobe tun, or use a kernel with CONFIG_TUN".to_owned(),
    }
}

use std::fmt;

/// Something that a kernel must be able to do: `vlan`, `netem`, `module:wireguard`, …
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Need(String);

/// What `needs` may name beside `module:NAME`.
pub(crate) struct Ability {
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) doc: &'static str,
    /// The module that brings it.
    pub(crate) module: &'static str,
    /// A symbol of that where it is built into a kernel.
    pub(crate) symbol: &'static str,
}

pub(crate) const ABILITIES: &[Ability] = &[
    ability("bonding", "links of kind bond", "bonding", "bond_setup"),
    ability("bridge", "links of kind bridge", "bridge", "br_dev_setup"),
    ability("dummy", "links of kind dummy", "dummy", "dummy_setup"),
    ability("ifb", "links of kind ifb", "ifb", "ifb_setup"),
    ability("ipvlan", "links of kind ipvlan", "ipvlan", "ipvlan_link_setup"),
    ability("macvlan", "links of kind macvlan", "macvlan", "macvlan_common_setup"),
    ability("netem", "the queueing discipline netem", "sch_netem", "netem_enqueue"),
    ability("nftables", "packet filters of nf_tables", "nf_tables", "nft_do_chain"),
    ability("tun", "tun and tap devices", "tun", "tun_chr_open"),
    ability("veth", "links of kind veth", "veth", "veth_setup"),
    ability("vlan", "VLANs: links of kind 802.1Q", "8021q", "vlan_setup"),
    ability("vrf", "links of kind VRF", "vrf", "vrf_setup"),
    ability("vxlan", "links of kind VXLAN", "vxlan", "vxlan_setup"),
    ability("wireguard", "links of kind WireGuard", "wireguard", "wg_setup"),
];

const fn ability(
    name: &'static str,
    doc: &'static str,
    module: &'static str,
    symbol: &'static str,
) -> Ability {
    Ability { name, doc, module, symbol }
}

impl Need {
    /// The need of this name: one of the reference's list, or `module:NAME`.
    pub(in crate::spec) fn parse(name: &str) -> Option<Need> {
        let is_known = match name.strip_prefix("module:") {
            Some(module) => {
                !module.is_empty()
                    && module.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            }
            None => ABILITIES.iter().any(|ability| ability.name == name),
        };
        is_known.then(|| Need(name.to_owned()))
    }

    /// Its name in the file.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kernel's module that brings it.
    pub fn module(&self) -> &str {
        let known = || self.ability().map(|ability| ability.module);
        self.0.strip_prefix("module:").or_else(known).unwrap_or(&self.0)
    }

    /// What is known of it, unless it is a module alone.
    pub(crate) fn ability(&self) -> Option<&'static Ability> {
        ABILITIES.iter().find(|ability| ability.name == self.0)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

use super::Checker;
use super::section::{Section, texts};
use crate::spec::address::{Subnet, SubnetError};
use crate::spec::model::Network;
use crate::spec::problem::{Place, Problem, ProblemKind, quoted};
use crate::spec::raw::Value;
use std::net::IpAddr;

/// A network and the places that problems with it are shown at.
pub(super) struct NetworkDraft<'a> {
    pub(super) network: Network,
    /// Where each of the network's subnets is written.
    pub(super) subnet_places: Vec<&'a Place>,
    /// What was written of it could be read, so that addresses on it can be judged.
    pub(super) sound: bool,
}

impl Checker<'_> {
    pub(super) fn networks<'a>(&mut self, root: &Section<'a>) -> Vec<NetworkDraft<'a>> {
        let mut drafts = Vec::new();
        let Some(networks) = root.get("networks") else { return drafts };
        for entry in networks.entries() {
            self.label("network", &entry.key, &entry.at);
            drafts.push(if entry.value.is_bad() {
                let network = Network {
                    name: entry.key.clone(),
                    subnets: Vec::new(),
                    uplink: None,
                    mtu: Network::DEFAULT_MTU,
                };
                NetworkDraft { network, subnet_places: Vec::new(), sound: false }
            } else {
                self.network(&entry.key, &entry.at, &root.item("networks", &entry.value))
            });
        }
        self.overlaps(&drafts);
        drafts
    }

    fn network<'a>(&mut self, name: &str, at: &'a Place, section: &Section<'a>) -> NetworkDraft<'a> {
        let mut subnets: Vec<Subnet> = Vec::new();
        let mut subnet_places: Vec<&Place> = Vec::new();
        let written = section.texts("subnet");
        for (text, place) in &written {
            let Some(subnet) = self.subnet(text, place) else { continue };
            if let Some(other) = subnets.iter().position(|known| known.is_ipv6() == subnet.is_ipv6()) {
                let problem = Problem::error(
                    ProblemKind::Misfit,
                    place,
                    "a network has one subnet of each family at most",
                );
                self.report(
                    problem.also(subnet_places[other], "the other one").help("make a second network of it"),
                );
                continue;
            }
            subnets.push(subnet);
            subnet_places.push(place);
        }
        let raw = section.flag("raw");
        let uplink = self.uplink(section, &subnets);
        if raw {
            self.raw_misfits(name, section);
        } else if !section.has("subnet") || section.get("subnet").is_some_and(|node| node.items().is_empty())
        {
            self.no_subnet(name, at);
        }
        let sound = subnets.len() == written.len() && (raw || !subnets.is_empty());
        if raw {
            subnets.clear();
        }
        let mtu = section.number("mtu").unwrap_or(Network::DEFAULT_MTU);
        if let (true, Some((_, place))) =
            (mtu < 1280 && subnets.iter().any(Subnet::is_ipv6), section.integer("mtu"))
        {
            let message = format!("an MTU of {mtu} is too small for IPv6");
            self.report(
                Problem::error(ProblemKind::Misfit, place, message).help("IPv6 needs 1280 (RFC 8200 §5)"),
            );
        }
        NetworkDraft {
            network: Network { name: name.to_owned(), subnets, uplink, mtu },
            subnet_places,
            sound,
        }
    }

    fn no_subnet(&mut self, name: &str, place: &Place) {
        let message = format!("network {} has neither a subnet nor `raw = true`", quoted(name));
        let hint =
            "write subnet = \"10.1.0.0/24\" for an addressed network, raw = true for one that the tests own";
        self.report(Problem::error(ProblemKind::MissingKey, place, message).help(hint));
    }

    fn raw_misfits(&mut self, name: &str, section: &Section<'_>) {
        for key in ["subnet", "uplink"] {
            let Some(node) = section.get(key) else { continue };
            if matches!(node.value, Value::Bool(false)) {
                continue;
            }
            let message = format!("`{key}` does not fit the raw network {}", quoted(name));
            let problem = Problem::error(ProblemKind::Misfit, &node.place, message);
            self.report(
                problem.help(format!("a raw network has no addresses: remove `{key}`, or `raw = true`")),
            );
        }
    }

    pub(super) fn subnet(&mut self, text: &str, place: &Place) -> Option<Subnet> {
        let error = match text.parse() {
            Ok(subnet) => return Some(subnet),
            Err(error) => error,
        };
        let problem =
            Problem::error(ProblemKind::BadValue, place, format!("{} is not a subnet", quoted(text)));
        let problem = problem.label(error.to_string());
        self.report(match error {
            SubnetError::HostBits(meant) => problem.help(format!("the subnet is `{meant}`")),
            SubnetError::NoPrefix => problem.help(format!("write `{text}/24`, for example")),
            SubnetError::BadAddress(_) | SubnetError::BadPrefix(..) => {
                problem.help("write it as `10.1.0.0/24` or `fd00:1::/64`")
            }
        });
        None
    }

    /// The gateway of the way out, in each subnet: the first address, unless the file gives one.
    fn uplink(&mut self, section: &Section<'_>, subnets: &[Subnet]) -> Option<Vec<IpAddr>> {
        let node = section.get("uplink")?;
        if matches!(node.value, Value::Bool(false)) {
            return None;
        }
        let mut given: Vec<IpAddr> = Vec::new();
        for (text, place) in texts(node) {
            let Some(ip) = self.ip(text, place) else { continue };
            if subnets.is_empty() || subnets.iter().any(|subnet| subnet.is_host(ip)) {
                given.push(ip);
            } else {
                let message =
                    format!("the uplink's address `{ip}` is not an address of the network's subnet");
                self.error(ProblemKind::Address, place, message);
            }
        }
        let gateway = |subnet: &Subnet| {
            given.iter().copied().find(|ip| subnet.contains(*ip)).or_else(|| subnet.hosts().next())
        };
        Some(subnets.iter().filter_map(gateway).collect())
    }

    /// One IP address, without a prefix length.
    pub(super) fn ip(&mut self, text: &str, place: &Place) -> Option<IpAddr> {
        if let Ok(ip) = text.parse() {
            return Some(ip);
        }
        let problem =
            Problem::error(ProblemKind::BadValue, place, format!("{} is not an IP address", quoted(text)));
        let bare = text.split_once('/').filter(|(ip, _)| ip.parse::<IpAddr>().is_ok());
        self.report(match bare {
            Some((ip, _)) => problem.help(format!("write `{ip}`: the prefix length is the subnet's")),
            None => problem.help("write it as `10.1.0.1` or `fd00:1::1`"),
        });
        None
    }

    fn overlaps(&mut self, drafts: &[NetworkDraft<'_>]) {
        // Sorted by their lowest address, a subnet overlaps some earlier one only if it overlaps the one of those that
        // reaches furthest: two subnets are either apart, or one holds the other.
        let each = |draft: &'_ NetworkDraft<'_>| draft.network.subnets.len();
        let mut all: Vec<(usize, usize)> = (0..drafts.len())
            .flat_map(|draft| (0..each(&drafts[draft])).map(move |subnet| (draft, subnet)))
            .collect();
        let subnet_of = |(draft, subnet): (usize, usize)| drafts[draft].network.subnets[subnet];
        all.sort_by_key(|at| (subnet_of(*at).base(), subnet_of(*at).prefix(), *at));
        let mut widest: Option<(usize, usize)> = None;
        for at in all {
            let Some(before) = widest.filter(|before| subnet_of(*before).overlaps(&subnet_of(at))) else {
                widest = Some(at);
                continue;
            };
            let (first, second) = if before.0 <= at.0 { (before, at) } else { (at, before) };
            let (one, two) = (&drafts[first.0], &drafts[second.0]);
            let message = format!(
                "the subnets of {} and {} overlap",
                quoted(&one.network.name),
                quoted(&two.network.name)
            );
            let problem = Problem::error(ProblemKind::Overlap, two.subnet_places[second.1], message);
            let problem = problem.label(format!("{} has addresses in common", subnet_of(second)));
            let problem = problem.also(one.subnet_places[first.1], format!("with {}", subnet_of(first)));
            self.report(problem.help("give each network a subnet of its own"));
        }
    }
}

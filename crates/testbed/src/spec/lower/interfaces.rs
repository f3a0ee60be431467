use super::Checker;
use super::machines::MachineDraft;
use super::networks::NetworkDraft;
use super::section::{Section, texts};
use crate::spec::address::{Mac, Subnet, step};
use crate::spec::model::{Address, Interface};
use crate::spec::problem::{Place, Problem, ProblemKind, quoted};
use crate::spec::raw::{Entry, Node, Value};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// What interface names there cannot be: they have a meaning under `/proc/sys/net`, or are there already.
const TAKEN_NAMES: [&str; 5] = [".", "..", "lo", "all", "default"];

/// The longest interface name: `IFNAMSIZ` less the closing NUL (if.h).
const LONGEST_NAME: usize = 15;

/// Who holds which address on which network, by the network's number.
#[derive(Default)]
struct Holders<'a> {
    ips: HashMap<(usize, IpAddr), (String, &'a Place)>,
    macs: HashMap<(usize, Mac), (String, &'a Place)>,
}

/// An interface by its machine, its number there, and its network.
#[derive(Clone, Copy)]
struct At {
    machine: usize,
    interface: usize,
    network: usize,
}

impl Checker<'_> {
    /// Gives every machine its interfaces: first what the file says, then the next free addresses, in file order.
    pub(super) fn interfaces<'a>(
        &mut self,
        drafts: &mut [MachineDraft<'a>],
        networks: &[NetworkDraft<'a>],
        testbed: &str,
    ) {
        let names = networks.iter().map(|draft| draft.network.name.as_str());
        let numbers: HashMap<&str, usize> =
            names.clone().enumerate().map(|(number, name)| (name, number)).collect();
        let mut holders = Holders::default();
        let (mut without_ip, mut without_mac) = (Vec::new(), Vec::new());
        for (machine, draft) in drafts.iter_mut().enumerate() {
            for entry in draft.section.entries("interfaces") {
                let Some(&network) = numbers.get(entry.key.as_str()) else {
                    self.unknown("network", &entry.key, &entry.at, names.clone());
                    continue;
                };
                let at = At { machine, interface: draft.machine.interfaces.len(), network };
                let (mut interface, mac) = self.interface(draft, entry, at, &networks[network], testbed);
                match written_addresses(&draft.section, entry) {
                    Written::Nothing => without_ip.push((at, &entry.at)),
                    Written::These(node) => {
                        interface.addresses =
                            self.addresses(draft, node, at, &networks[network], &mut holders);
                        draft.sound &= interface.addresses.len() == node.items().len();
                    }
                    Written::Bad => draft.sound = false,
                }
                match mac {
                    Some(place) => self.claim_mac(&mut holders, (network, interface.mac), draft, place),
                    None => without_mac.push(at),
                }
                draft.machine.interfaces.push(interface);
            }
        }
        self.next_free(drafts, networks, &mut holders, &without_ip);
        for At { machine, interface, network } in without_mac {
            let draft = &mut drafts[machine];
            let name = &networks[network].network.name;
            let derived = |attempt| Mac::derive(testbed, &draft.machine.name, name, attempt);
            // 256 attempts at 2^46 addresses: one is free.
            if let Some(mac) =
                (0..=u8::MAX).map(derived).find(|mac| !holders.macs.contains_key(&(network, *mac)))
            {
                holders.macs.insert((network, mac), (draft.machine.name.clone(), draft.at));
                draft.machine.interfaces[interface].mac = mac;
            }
        }
        drafts.iter().for_each(|draft| self.interface_names(draft));
        self.small_mtus(drafts);
    }

    /// The interface without its addresses, and where its link address is written if it is.
    fn interface<'a>(
        &mut self,
        draft: &MachineDraft<'a>,
        entry: &'a Entry,
        at: At,
        on: &NetworkDraft<'_>,
        testbed: &str,
    ) -> (Interface, Option<&'a Place>) {
        let table = draft.section.item("interfaces", &entry.value);
        let network = on.network.name.clone();
        let derived = Mac::derive(testbed, &draft.machine.name, &network, 0);
        let written = table.text("mac").and_then(|(text, place)| match text.parse::<Mac>() {
            Ok(mac) => Some((mac, place)),
            Err(error) => {
                let message = format!("{} is not the MAC address of an interface", quoted(text));
                self.report(Problem::error(ProblemKind::BadValue, place, message).label(error.to_string()));
                None
            }
        });
        let interface = Interface {
            network,
            name: match table.text("name") {
                Some((name, place)) => self.interface_name(name, place),
                None => format!("eth{}", at.interface),
            },
            mac: written.map_or(derived, |(mac, _)| mac),
            mtu: table.number("mtu").unwrap_or(on.network.mtu),
            addresses: Vec::new(),
        };
        (interface, written.map(|(_, place)| place))
    }

    fn interface_name(&mut self, name: &str, place: &Place) -> String {
        let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%');
        if name.len() > LONGEST_NAME {
            let message = format!("the interface name {} is too long", quoted(name));
            let problem = Problem::error(ProblemKind::BadName, place, message);
            self.report(problem.label(format!("{} bytes; {LONGEST_NAME} at most", name.len())));
        } else if name.is_empty() || !name.chars().all(legal) || TAKEN_NAMES.contains(&name) {
            let message = format!("{} cannot be the name of an interface", quoted(name));
            self.error(ProblemKind::BadName, place, message);
        }
        name.to_owned()
    }

    fn interface_names(&mut self, draft: &MachineDraft<'_>) {
        let mut seen = HashMap::new();
        for (number, interface) in draft.machine.interfaces.iter().enumerate() {
            let Some(before) = seen.insert(interface.name.as_str(), number) else { continue };
            let entries = draft.section.entries("interfaces");
            let place = |number: usize| {
                let network = &draft.machine.interfaces[number].network;
                entries.iter().find(|entry| entry.key == *network).map_or(draft.at, |entry| &entry.at)
            };
            let message = format!(
                "two interfaces of {} are named {}",
                quoted(&draft.machine.declared),
                quoted(&interface.name)
            );
            let problem = Problem::error(ProblemKind::Duplicate, place(number), message);
            self.report(problem.also(place(before), "the other one"));
        }
    }

    /// The addresses that are written, each legal on its network and nobody else's.
    fn addresses<'a>(
        &mut self,
        draft: &MachineDraft<'a>,
        node: &'a Node,
        at: At,
        on: &NetworkDraft<'_>,
        holders: &mut Holders<'a>,
    ) -> Vec<Address> {
        let mut addresses = Vec::new();
        for (text, place) in texts(node) {
            let (first, counts) = text.strip_suffix('+').map_or((text, false), |first| (first, true));
            let Some(ip) = self.ip(first, place) else { continue };
            let Some(ip) = step(ip, if counts { draft.index } else { 0 }) else {
                self.error(
                    ProblemKind::Address,
                    place,
                    format!("{} counts beyond the last address there is", quoted(text)),
                );
                continue;
            };
            if on.sound
                && let Some(subnet) = self.subnet_of(ip, place, on)
            {
                self.claim_ip(holders, (at.network, ip), draft, place);
                addresses.push(Address { ip, prefix: subnet.prefix() });
            }
        }
        addresses
    }

    /// The subnet of the network in which an interface can have this address.
    fn subnet_of(&mut self, ip: IpAddr, place: &Place, on: &NetworkDraft<'_>) -> Option<Subnet> {
        let name = quoted(&on.network.name);
        if on.network.is_raw() {
            let message = format!("an address does not fit the raw network {name}");
            let problem = Problem::error(ProblemKind::Misfit, place, message);
            self.report(
                problem.help(format!("the tests give addresses there: write {} = {{}}", on.network.name)),
            );
            return None;
        }
        let Some(number) = on.network.subnets.iter().position(|subnet| subnet.contains(ip)) else {
            let mut problem =
                Problem::error(ProblemKind::Address, place, format!("{ip} is outside of {name}"));
            for (subnet, at) in on.network.subnets.iter().zip(&on.subnet_places) {
                problem = problem.also(at, format!("its subnet is {subnet}"));
            }
            let free = on
                .network
                .subnets
                .iter()
                .find_map(|subnet| subnet.hosts().nth(1).or_else(|| subnet.hosts().next()));
            self.report(
                problem.help(
                    free.map_or_else(String::new, |ip| format!("an address there is {ip}, for example")),
                ),
            );
            return None;
        };
        let subnet = on.network.subnets[number];
        let complaint = if !subnet.is_host(ip) {
            Some(if ip == subnet.base() {
                "is the address of the network itself"
            } else {
                "is the broadcast address"
            })
        } else if on.network.uplink.iter().flatten().any(|gateway| *gateway == ip) {
            Some("is the address of the uplink")
        } else {
            None
        };
        let Some(complaint) = complaint else { return Some(subnet) };
        let problem = Problem::error(ProblemKind::Address, place, format!("{ip} {complaint} on {name}"));
        let problem = problem.also(on.subnet_places[number], format!("its subnet is {subnet}"));
        self.report(problem.help("give the machine another one"));
        None
    }

    fn claim_ip<'a>(
        &mut self,
        holders: &mut Holders<'a>,
        at: (usize, IpAddr),
        draft: &MachineDraft<'a>,
        place: &'a Place,
    ) {
        let Some((holder, before)) = holders.ips.insert(at, (draft.machine.name.clone(), place)) else {
            return;
        };
        let message =
            format!("{} and {} have the same address {}", quoted(&holder), quoted(&draft.machine.name), at.1);
        let problem = Problem::error(ProblemKind::Duplicate, place, message);
        self.report(if before == place {
            problem.help(format!("with `count`, write \"{}+\" to count up", at.1))
        } else {
            problem.also(before, format!("{} has it", quoted(&holder)))
        });
    }

    fn claim_mac<'a>(
        &mut self,
        holders: &mut Holders<'a>,
        at: (usize, Mac),
        draft: &MachineDraft<'a>,
        place: &'a Place,
    ) {
        let Some((holder, before)) = holders.macs.insert(at, (draft.machine.name.clone(), place)) else {
            return;
        };
        let message = format!(
            "{} and {} have the same MAC address {}",
            quoted(&holder),
            quoted(&draft.machine.name),
            at.1
        );
        let problem = Problem::error(ProblemKind::Duplicate, place, message);
        let problem = if before == place {
            problem
        } else {
            problem.also(before, format!("{} has it", quoted(&holder)))
        };
        self.report(problem.help("without `mac`, each gets one of its own"));
    }

    /// The next free addresses, one of each subnet. What is named as a gateway is not free: it will be somebody's.
    fn next_free<'a>(
        &mut self,
        drafts: &mut [MachineDraft<'a>],
        networks: &[NetworkDraft<'_>],
        holders: &mut Holders<'a>,
        wanting: &[(At, &'a Place)],
    ) {
        let mut reserved: HashSet<IpAddr> =
            networks.iter().flat_map(|draft| draft.network.uplink.iter().flatten()).copied().collect();
        for draft in drafts.iter().filter(|draft| draft.index == 0) {
            let gateways = draft.section.texts("gateway").into_iter().map(|(text, _)| text);
            let routers =
                draft.section.entries("routes").into_iter().filter_map(|entry| entry.value.as_text());
            reserved.extend(gateways.chain(routers).filter_map(|text| text.parse::<IpAddr>().ok()));
        }
        let mut hosts: Vec<Vec<_>> = networks
            .iter()
            .map(|draft| draft.network.subnets.iter().map(|subnet| (*subnet, subnet.hosts())).collect())
            .collect();
        for (At { machine, interface, network }, place) in wanting {
            if !networks[*network].sound {
                continue;
            }
            for (subnet, hosts) in &mut hosts[*network] {
                let Some(ip) =
                    hosts.find(|ip| !reserved.contains(ip) && !holders.ips.contains_key(&(*network, *ip)))
                else {
                    let message = format!(
                        "the network {} has no free address",
                        quoted(&networks[*network].network.name)
                    );
                    let problem = Problem::error(ProblemKind::Address, place, message);
                    self.report(problem.help(format!("{subnet} is too small for its machines")));
                    continue;
                };
                let draft = &mut drafts[*machine];
                holders.ips.insert((*network, ip), (draft.machine.name.clone(), place));
                draft.machine.interfaces[*interface].addresses.push(Address { ip, prefix: subnet.prefix() });
            }
        }
    }

    fn small_mtus(&mut self, drafts: &[MachineDraft<'_>]) {
        for draft in drafts {
            for entry in draft.section.entries("interfaces") {
                let interface =
                    draft.machine.interfaces.iter().find(|interface| interface.network == entry.key);
                let table = draft.section.item("interfaces", &entry.value);
                if let (Some(interface), Some((mtu, place))) = (interface, table.integer("mtu"))
                    && mtu < 1280
                    && interface.addresses.iter().any(|address| address.ip.is_ipv6())
                {
                    let message = format!("an MTU of {mtu} is too small for IPv6");
                    self.report(
                        Problem::error(ProblemKind::Misfit, place, message)
                            .help("IPv6 needs 1280 (RFC 8200 §5)"),
                    );
                }
            }
        }
    }
}

/// What the file says of an interface's addresses.
enum Written<'a> {
    /// Nothing: it gets the next free ones.
    Nothing,
    These(&'a Node),
    /// Something that has been reported.
    Bad,
}

fn written_addresses<'a>(machine: &Section<'a>, entry: &'a Entry) -> Written<'a> {
    match &entry.value.value {
        Value::Table(_) => {
            let table = machine.item("interfaces", &entry.value);
            match (table.get("address"), table.has("address")) {
                (Some(node), _) => Written::These(node),
                (None, true) => Written::Bad,
                (None, false) => Written::Nothing,
            }
        }
        _ => Written::These(&entry.value),
    }
}

use super::Checker;
use super::machines::MachineDraft;
use super::networks::NetworkDraft;
use crate::spec::model::{Machine, Route};
use crate::spec::problem::{Place, Problem, ProblemKind, quoted};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

impl Checker<'_> {
    /// Gateways and routes, once all machines have their addresses.
    pub(super) fn routing(&mut self, drafts: &mut [MachineDraft<'_>], networks: &[NetworkDraft<'_>]) {
        let by_name: HashMap<&str, &NetworkDraft<'_>> =
            networks.iter().map(|draft| (draft.network.name.as_str(), draft)).collect();
        let held = drafts
            .iter()
            .flat_map(|draft| draft.machine.interfaces.iter().flat_map(|interface| &interface.addresses));
        let held: HashSet<IpAddr> = held
            .map(|address| address.ip)
            .chain(networks.iter().flat_map(|draft| draft.network.uplink.iter().flatten().copied()))
            .collect();
        for draft in drafts.iter_mut().filter(|draft| draft.machine.agent) {
            // What cannot be read of its networks has been reported; nothing can be said of what is reachable there.
            let entries = draft.section.entries("interfaces");
            let judged = draft.sound
                && entries.iter().all(|entry| by_name.get(entry.key.as_str()).is_some_and(|on| on.sound))
                && draft.section.get("interfaces").map_or(0, |node| node.entries().len()) <= entries.len();
            self.gateways(draft, &by_name, &held, judged);
            self.routes(draft, &held, judged);
        }
    }

    fn gateways(
        &mut self,
        draft: &mut MachineDraft<'_>,
        networks: &HashMap<&str, &NetworkDraft<'_>>,
        held: &HashSet<IpAddr>,
        judged: bool,
    ) {
        if !draft.section.has("gateway") {
            draft.machine.gateways = uplinks(&draft.machine, networks);
            return;
        }
        let mut gateways: Vec<(IpAddr, &Place)> = Vec::new();
        for (text, place) in draft.section.texts("gateway") {
            let Some(ip) = self.ip(text, place) else { continue };
            if let Some((_, other)) = gateways.iter().find(|(known, _)| known.is_ipv6() == ip.is_ipv6()) {
                let message = "a machine has one gateway of each family at most";
                let problem =
                    Problem::error(ProblemKind::Misfit, place, message).also(other, "the other one");
                self.report(problem.help("use `routes` for further ones"));
                continue;
            }
            if judged {
                self.reachable("gateway", ip, place, &draft.machine, held);
            }
            gateways.push((ip, place));
        }
        draft.machine.gateways = gateways.into_iter().map(|(ip, _)| ip).collect();
    }

    fn routes(&mut self, draft: &mut MachineDraft<'_>, held: &HashSet<IpAddr>, judged: bool) {
        let mut seen: HashMap<_, &Place> = HashMap::new();
        for entry in draft.section.entries("routes") {
            let Some(text) = entry.value.as_text() else { continue };
            let (to, via) = (self.subnet(&entry.key, &entry.at), self.ip(text, &entry.value.place));
            let (Some(to), Some(via)) = (to, via) else { continue };
            if to.prefix() == 0 {
                let problem = Problem::error(
                    ProblemKind::Misfit,
                    &entry.at,
                    "the default route is not one of `routes`",
                );
                self.report(problem.help(format!("write gateway = \"{via}\"")));
            } else if to.is_ipv6() != via.is_ipv6() {
                let message = format!("{to} and {via} are of different families");
                self.error(ProblemKind::Misfit, &entry.value.place, message);
            } else if let Some(before) = seen.insert(to, &entry.at) {
                let problem = Problem::error(
                    ProblemKind::Duplicate,
                    &entry.at,
                    format!("there are two routes to {to}"),
                );
                self.report(problem.also(before, "first here"));
            } else if judged {
                self.reachable("router", via, &entry.value.place, &draft.machine, held);
            }
            draft.machine.routes.push(Route { to, via });
        }
    }

    /// Reports a router that lies in no subnet of the machine.
    fn reachable(
        &mut self,
        what: &str,
        ip: IpAddr,
        place: &Place,
        machine: &Machine,
        held: &HashSet<IpAddr>,
    ) {
        let name = quoted(&machine.name);
        let addresses = || machine.interfaces.iter().flat_map(|interface| &interface.addresses);
        if addresses().next().is_none() {
            let message =
                format!("a {what} does not fit {}: it has no addressed interface", quoted(&machine.declared));
            self.report(
                Problem::error(ProblemKind::Misfit, place, message)
                    .help("give it an interface on an addressed network"),
            );
        } else if addresses().any(|address| address.ip == ip) {
            let message = format!("the {what} {ip} is {name} itself");
            self.report(
                Problem::error(ProblemKind::Unreachable, place, message)
                    .help("name another machine's address"),
            );
        } else if !addresses().any(|address| address.subnet().contains(ip)) {
            let message = format!("the {what} {ip} is not reachable from {name}");
            let subnets: Vec<String> = addresses().map(|address| address.subnet().to_string()).collect();
            let problem = Problem::error(ProblemKind::Unreachable, place, message);
            self.report(
                problem.help(format!("it must lie in a subnet of the machine: {}", subnets.join(", "))),
            );
        } else if !held.contains(&ip) {
            let message = format!("no machine has the address {ip}, the {what} of {name}");
            let problem = Problem::warning(ProblemKind::Unreachable, place, message);
            self.report(problem.help("what is sent there is lost, until a test gives somebody that address"));
        }
    }
}

/// The ways out of the machine's networks: the first of each family.
fn uplinks(machine: &Machine, networks: &HashMap<&str, &NetworkDraft<'_>>) -> Vec<IpAddr> {
    let mut gateways: Vec<IpAddr> = Vec::new();
    for interface in &machine.interfaces {
        let uplink = networks.get(interface.network.as_str()).and_then(|draft| draft.network.uplink.as_ref());
        for gateway in uplink.into_iter().flatten() {
            let on_link = interface.addresses.iter().any(|address| address.subnet().contains(*gateway));
            if on_link && gateways.iter().all(|known| known.is_ipv6() != gateway.is_ipv6()) {
                gateways.push(*gateway);
            }
        }
    }
    gateways
}

use super::Checker;
use super::machines::MachineDraft;
use super::networks::NetworkDraft;
use super::section::texts;
use crate::spec::model::{Control, Port, Right, RightAction};
use crate::spec::name::{matches_pattern, nearest};
use crate::spec::problem::{Place, Problem, ProblemKind, quoted};
use crate::spec::raw::{Node, Value};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

impl Checker<'_> {
    /// What reaches into a machine and out of it beside its networks: published ports, and the control socket.
    pub(super) fn access<'a>(&mut self, drafts: &mut [MachineDraft<'a>], networks: &[NetworkDraft<'_>]) {
        let mut published: HashMap<SocketAddr, (String, &'a Place)> = HashMap::new();
        for draft in drafts.iter_mut().filter(|draft| draft.machine.agent) {
            for entry in draft.section.entries("ports") {
                let Some(host) = self.host_port(&entry.key, &entry.at) else { continue };
                let Value::Integer(port) = entry.value.value else { continue };
                // The table of keys bounds it.
                let Ok(machine) = u16::try_from(port) else { continue };
                draft.machine.ports.push(Port { host, machine });
                let Some((other, before)) = published.insert(host, (draft.machine.name.clone(), &entry.at))
                else {
                    continue;
                };
                let message =
                    format!("{} and {} both publish {host}", quoted(&other), quoted(&draft.machine.name));
                let problem = Problem::error(ProblemKind::Duplicate, &entry.at, message);
                let problem = if *before == entry.at { problem } else { problem.also(before, "first here") };
                self.report(problem.help("the host has each of its ports once"));
            }
        }
        let names: Vec<String> = drafts.iter().map(|draft| draft.machine.name.clone()).collect();
        let networks = networks.iter().map(|draft| draft.network.name.as_str());
        let targets: Vec<&str> = names.iter().map(String::as_str).chain(networks).collect();
        for draft in drafts.iter_mut().filter(|draft| draft.machine.agent) {
            if let Some(node) = draft.section.get("control") {
                draft.machine.control = self.control(node, &targets);
            }
        }
    }

    fn host_port(&mut self, text: &str, place: &Place) -> Option<SocketAddr> {
        let port = text.parse::<u16>().ok().map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        let host = port.or_else(|| text.parse().ok()).filter(|host| host.port() != 0);
        if host.is_none() {
            let problem = Problem::error(
                ProblemKind::BadValue,
                place,
                format!("{} is not a port of the host", quoted(text)),
            );
            self.report(
                problem.help("write \"8080\", or \"ADDRESS:8080\" for an address other than 127.0.0.1"),
            );
        }
        host
    }

    fn control(&mut self, node: &Node, targets: &[&str]) -> Control {
        if let Value::Bool(all) = node.value {
            return if all { Control::All } else { Control::None };
        }
        let mut rights = Vec::new();
        for (text, place) in texts(node) {
            let (action, pattern) =
                text.split_once(':').map_or((text, None), |(action, pattern)| (action, Some(pattern)));
            let Some(action) = RightAction::ALL.into_iter().find(|known| known.as_str() == action) else {
                let message = format!("there is no right {}", quoted(action));
                let problem = Problem::error(ProblemKind::UnknownName, place, message);
                let known = || RightAction::ALL.into_iter().map(RightAction::as_str);
                self.report(match nearest(action, known()) {
                    Some(near) => problem.help(format!("did you mean `{near}`?")),
                    None => {
                        problem.help(format!("the rights are {}", known().collect::<Vec<_>>().join(", ")))
                    }
                });
                continue;
            };
            if let Some(pattern) = pattern
                && !targets.iter().any(|target| matches_pattern(pattern, target))
            {
                self.unknown("machine or network", pattern, place, targets.iter().copied());
            }
            rights.push(Right { action, pattern: pattern.map(str::to_owned) });
        }
        Control::Only(rights)
    }
}

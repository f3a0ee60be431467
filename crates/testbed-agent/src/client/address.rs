//! The address of a machine: also one that its own programs have given it.

use super::arguments::Arguments;
use super::connection::ANSWER;
use super::run::{machines, strange, tooling};
use super::streams::{Carried, Ends, carry};
use super::{Connection, Io, Wrong, show, status};
use crate::agent::{Family, Reply, Report, Source, Tool};
use crate::fault::{Fault, FaultKind};
use std::time::Duration;

/// Which address of a machine is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The machine.
    pub machine: String,
    /// On this network; on the first interface that has one if none.
    pub network: Option<String>,
    /// Of this kind.
    pub family: Family,
    /// How long to wait until there is one.
    pub wait: Option<Duration>,
}

/// Takes the words of `address` apart.
pub(super) fn parse(a: &mut Arguments) -> Result<Address, Wrong> {
    let family = match (a.flag("ipv4"), a.flag("ipv6")) {
        (false, false) => Family::Any,
        (true, false) => Family::Ipv4,
        (false, true) => Family::Ipv6,
        (true, true) => return Err(Wrong::new("`--ipv4` and `--ipv6` do not go together")),
    };
    let network = a.one("network")?.map(str::to_owned);
    Ok(Address { machine: a.next("MACHINE")?, network, family, wait: a.duration("wait")? })
}

/// Writes it; the status that the call ends with.
pub(super) fn run(connection: &mut Connection, wanted: &Address, io: &Io<'_>) -> Result<u8, Fault> {
    let Address { machine, network, family, wait } = wanted;
    let interface = network.as_ref().map(|network| interface_on(connection, machine, network)).transpose()?;
    let tool = Tool::Addresses { interface, wait: wait.map(|_| *family) };
    let timeout = wait.unwrap_or(ANSWER);
    let channel = connection.open(machine, tooling(tool, Source::Null, Some(timeout)))?;
    let found = match carry(channel, Ends::default(), Some(timeout))? {
        Carried::Ended(end) => match end.reply()? {
            Reply::Ended { report: Some(Report::Addresses(all)), .. } => {
                all.into_iter().map(|(_, address)| address).find(|address| family.holds(*address))
            }
            other => return Err(strange(machine, &other)),
        },
        Carried::Stopped(_) | Carried::Unread => None,
    };
    if let Some(address) = found {
        io.print(&format!("{address}\n"))?;
        return Ok(status::DONE);
    }
    let kind = match family {
        Family::Any => "no address",
        Family::Ipv4 => "no IPv4 address",
        Family::Ipv6 => "no IPv6 address",
    };
    let place = network.as_ref().map_or(String::new(), |network| format!(" on the network `{network}`"));
    let late = wait.map_or(String::new(), |wait| format!(" within {}", show::duration(wait)));
    io.say(&format!("{machine}: {kind}{place}{late}"));
    Ok(status::OTHERWISE)
}

/// The name that a machine's interface on a network has inside.
fn interface_on(connection: &mut Connection, machine: &str, network: &str) -> Result<String, Fault> {
    let all = machines(connection)?;
    let its = all.into_iter().find(|its| its.name == machine);
    let its = its.ok_or_else(|| Fault::new(FaultKind::NotFound, format!("no machine `{machine}`")))?;
    let names = || its.interfaces.iter().map(|its| its.network.as_str()).collect::<Vec<_>>().join(", ");
    let found = its.interfaces.iter().find(|its| its.network == network);
    found.map(|found| found.name.clone()).ok_or_else(|| {
        let fault = Fault::new(FaultKind::NotFound, format!("not on the network `{network}`")).on(machine);
        match its.interfaces.is_empty() {
            true => fault.hint("it is on no network"),
            false => fault.hint(format!("it is on: {}", names())),
        }
    })
}

//! Where connections may go that are opened on behalf of machines.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use testbed_sys::route::{Destination, Routes};

/// Why a destination is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is the host itself, or not one place.
    Prohibited,
    /// The host has no way there.
    NoRoute,
}

/// Judges destinations.
#[derive(Debug)]
pub(crate) struct Policy {
    routes: Routes,
    to_host: bool,
}

impl Policy {
    pub(crate) fn new(to_host: bool) -> io::Result<Policy> {
        Ok(Policy { routes: Routes::open()?, to_host })
    }

    /// Judges a destination by where the kernel would send its packets, so that no name of this host is forgotten.
    pub(crate) fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        if never(address) {
            return Err(Refusal::Prohibited);
        }
        match self.routes.destination(address) {
            Ok(Destination::Elsewhere) => Ok(()),
            Ok(Destination::Local) if self.to_host => Ok(()),
            Ok(_) => Err(Refusal::Prohibited),
            Err(_) => Err(Refusal::NoRoute),
        }
    }
}

/// Where clouds tell a host what is for it alone, keys included, beside the link-local 169.254.169.254.
const METADATA: [IpAddr; 4] = [
    // Alibaba Cloud
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Azure
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Amazon
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    // Google
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// No packet for such an address may leave a machine's network, whatever the host's routes say.
fn never(address: IpAddr) -> bool {
    address.is_unspecified()
        || address.is_multicast()
        || METADATA.contains(&address)
        || match address {
            IpAddr::V4(v4) => {
                v4.octets()[0] == 0 || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
            }
            // An IPv4 address in the clothes of an IPv6 one would be judged by the wrong routes.
            IpAddr::V6(v6) => {
                v6.is_loopback()
                    || v6.is_unicast_link_local()
                    || v6.to_ipv4_mapped().is_some()
                    || v6.to_ipv4().is_some()
            }
        }
}

/// The name servers in the text of a resolv.conf(5).
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    const PORT: u16 = 53;
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next())?
        })
        .filter_map(|word| Some(SocketAddr::new(word.parse().ok()?, PORT)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_itself_is_refused_by_any_name() {
        let policy = Policy::new(false).unwrap();
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.0.9",
            "224.0.0.1",
            "255.255.255.255",
            "169.254.169.254",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "ff02::1",
            "fe80::1",
            "100.100.100.200",
            "fd00:ec2::254",
        ] {
            assert_eq!(policy.check(address.parse().unwrap()), Err(Refusal::Prohibited), "{address}");
        }
    }

    #[test]
    fn loopback_stays_closed_even_if_the_host_is_open() {
        let policy = Policy::new(true).unwrap();
        assert_eq!(policy.check("127.0.0.1".parse().unwrap()), Err(Refusal::Prohibited));
    }

    #[test]
    fn name_servers_are_read_as_resolv_conf_has_them() {
        let text = "# a comment\nsearch x\nnameserver 10.0.0.53\n  nameserver fd00::35 \nnameserver nonsense\n\
            nameserver\noptions edns0\n";
        let expected: Vec<SocketAddr> =
            vec!["10.0.0.53:53".parse().unwrap(), "[fd00::35]:53".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }
}

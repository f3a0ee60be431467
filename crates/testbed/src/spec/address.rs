//! Subnets and link addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use thiserror::Error;

/// An IP subnet: a network address and a prefix length (RFC 4632, RFC 4291 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no subnet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SubnetError {
    /// There is no `/`.
    #[error("a subnet needs a prefix length")]
    NoPrefix,
    /// What stands before the `/`.
    #[error("`{0}` is not an IP address")]
    BadAddress(String),
    /// What stands behind it.
    #[error("`{0}` is not a prefix length from 0 to {1}")]
    BadPrefix(String, u8),
    /// Bits beyond the prefix are set; the subnet that was probably meant.
    #[error("the address has bits beyond its prefix length")]
    HostBits(Subnet),
}

impl Subnet {
    /// The subnet that an address lies in. `prefix` is not above the family's number of bits.
    pub(super) fn around(ip: IpAddr, prefix: u8) -> Subnet {
        let subnet = Subnet { base: ip, prefix };
        Subnet { base: from_number(number(ip) & subnet.mask(), ip.is_ipv6()), prefix }
    }

    /// The lowest address.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// The prefix length in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.base.is_ipv6()
    }

    /// Whether the address lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        ip.is_ipv6() == self.is_ipv6() && number(ip) & self.mask() == number(self.base)
    }

    /// Whether any address lies in both.
    pub fn overlaps(&self, other: &Subnet) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }

    /// Whether an interface can have the address: it lies in the subnet and is neither the network's own address nor
    /// the broadcast address. Subnets of one or two addresses have neither (RFC 3021, RFC 6164).
    pub fn is_host(&self, ip: IpAddr) -> bool {
        self.contains(ip) && (self.first_host()..=self.last_host()).contains(&number(ip))
    }

    /// The addresses that an interface can have, lowest first.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let ipv6 = self.is_ipv6();
        (self.first_host()..=self.last_host()).map(move |number| from_number(number, ipv6))
    }

    fn bits(&self) -> u8 {
        if self.is_ipv6() { 128 } else { 32 }
    }

    fn mask(&self) -> u128 {
        let family = if self.is_ipv6() { u128::MAX } else { u128::from(u32::MAX) };
        family & !self.host_bits()
    }

    fn host_bits(&self) -> u128 {
        let host = u32::from(self.bits().saturating_sub(self.prefix));
        1u128.checked_shl(host).map_or(u128::MAX, |end| end - 1)
    }

    fn first_host(&self) -> u128 {
        number(self.base) + u128::from(self.host_bits() > 1)
    }

    fn last_host(&self) -> u128 {
        let last = number(self.base) | self.host_bits();
        last - u128::from(self.host_bits() > 1 && !self.is_ipv6())
    }
}

/// The address `steps` above this one, if the family has it.
pub(super) fn step(ip: IpAddr, steps: u32) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(steps).map(|n| IpAddr::V4(n.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(steps.into()).map(|n| IpAddr::V6(n.into())),
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

fn from_number(number: u128, ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::V6(Ipv6Addr::from(number))
    } else {
        // The low 32 bits are all there is of an IPv4 address.
        IpAddr::V4(Ipv4Addr::from(number as u32))
    }
}

/// The subnet of one address.
impl From<IpAddr> for Subnet {
    fn from(ip: IpAddr) -> Subnet {
        Subnet { base: ip, prefix: if ip.is_ipv6() { 128 } else { 32 } }
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let (address, prefix) = text.split_once('/').ok_or(SubnetError::NoPrefix)?;
        let base: IpAddr = address.parse().map_err(|_| SubnetError::BadAddress(address.to_owned()))?;
        let bits = if base.is_ipv6() { 128 } else { 32 };
        let bad = || SubnetError::BadPrefix(prefix.to_owned(), bits);
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(bad)?;
        let subnet = Subnet::around(base, prefix);
        if subnet.base == base { Ok(subnet) } else { Err(SubnetError::HostBits(subnet)) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

/// An address on a link (IEEE 802, 48 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// Why a text is no link address of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MacError {
    /// It is not of the form `02:00:00:00:00:01`.
    #[error("a MAC address is six pairs of hexadecimal digits with colons between")]
    Form,
    /// It is of a group, or all zero.
    #[error("this MAC address cannot belong to one interface")]
    Group,
}

impl Mac {
    /// The address in the order of transmission.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }

    /// A locally administered address of one interface that always comes from the same names. `attempt` counts up
    /// where two names on one network would get the same.
    pub(crate) fn derive(testbed: &str, machine: &str, network: &str, attempt: u8) -> Mac {
        // FNV-1a, then the finaliser of MurmurHash3, so that all bits of the names reach all bits of the address.
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let separated = [testbed, machine, network].into_iter().flat_map(|name| name.bytes().chain([0]));
        for byte in separated.chain([attempt]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        let [first, b, c, d, e, f, ..] = hash.to_be_bytes();
        Mac([(first & 0b1111_1100) | 0b10, b, c, d, e, f])
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(MacError::Form)?;
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(MacError::Form);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacError::Form)?;
        }
        if parts.next().is_some() {
            return Err(MacError::Form);
        }
        if octets[0] & 1 == 1 || octets == [0; 6] { Err(MacError::Group) } else { Ok(Mac(octets)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_leave_out_the_ends_that_have_a_meaning() {
        let ends = |text: &str| {
            let hosts: Vec<_> = subnet(text).hosts().map(|ip| ip.to_string()).collect();
            (hosts.len(), hosts[0].clone(), hosts[hosts.len() - 1].clone())
        };
        assert_eq!(ends("10.0.0.0/30"), (2, "10.0.0.1".into(), "10.0.0.2".into()));
        assert_eq!(ends("10.0.0.0/31"), (2, "10.0.0.0".into(), "10.0.0.1".into()));
        assert_eq!(ends("10.0.0.7/32"), (1, "10.0.0.7".into(), "10.0.0.7".into()));
        assert_eq!(ends("fd00::/126"), (3, "fd00::1".into(), "fd00::3".into()));
        assert_eq!(ends("fd00::/127"), (2, "fd00::".into(), "fd00::1".into()));
        assert!(subnet("0.0.0.0/0").is_host("255.255.255.254".parse().unwrap()));
        assert!(subnet("::/0").is_host("ffff::1".parse().unwrap()));
        assert!(!subnet("10.0.0.0/24").is_host("10.0.0.255".parse().unwrap()));
        assert!(!subnet("10.0.0.0/24").contains("::10".parse().unwrap()));
    }

    #[test]
    fn derived_link_addresses_are_stable_local_and_of_one_interface() {
        assert_eq!(Mac::derive("pair", "web", "lan", 0).to_string(), "ce:89:8f:4d:2d:0e");
        assert_ne!(Mac::derive("bed", "gw1", "lan", 0), Mac::derive("bed", "gw", "1lan", 0));
        assert_ne!(Mac::derive("bed", "gw1", "lan", 0), Mac::derive("bed", "gw1", "lan", 1));
        for number in 0..200 {
            let octets = Mac::derive("bed", &format!("m{number}"), "lan", 0).octets();
            assert_eq!(octets[0] & 0b11, 0b10, "locally administered, unicast");
        }
    }

    #[test]
    fn link_addresses_of_groups_are_refused() {
        assert_eq!("01:00:5e:00:00:01".parse::<Mac>(), Err(MacError::Group));
        assert_eq!("00:00:00:00:00:00".parse::<Mac>(), Err(MacError::Group));
        assert_eq!("02:0:0:0:0:1".parse::<Mac>(), Err(MacError::Form));
        assert_eq!("02:00:00:00:00:01:02".parse::<Mac>(), Err(MacError::Form));
    }

    proptest! {
        #[test]
        fn a_subnet_reads_back_as_it_prints(ip in any::<IpAddr>(), prefix in 0u8..=128) {
            let text = format!("{ip}/{prefix}");
            match text.parse::<Subnet>() {
                Ok(subnet) => prop_assert_eq!(subnet.to_string(), text),
                Err(SubnetError::HostBits(meant)) => {
                    prop_assert!(meant.contains(ip));
                    prop_assert_eq!(meant.to_string().parse::<Subnet>(), Ok(meant));
                }
                Err(_) => prop_assert!(prefix > 32 && ip.is_ipv4()),
            }
        }

        #[test]
        fn subnets_overlap_when_one_holds_the_other(a in any::<u32>(), b in any::<u32>(), p in 0u8..=32, q in 0u8..=32) {
            let cut = |number: u32, prefix: u8| {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                Subnet { base: IpAddr::V4((number & mask).into()), prefix }
            };
            let (x, y) = (cut(a, p), cut(b, q));
            let shorter = p.min(q);
            prop_assert_eq!(x.overlaps(&y), cut(a, shorter).base == cut(b, shorter).base);
            prop_assert_eq!(x.overlaps(&y), y.overlaps(&x));
        }

        #[test]
        fn a_link_address_reads_back_as_it_prints(octets in any::<[u8; 6]>()) {
            prop_assume!(octets[0] & 1 == 0 && octets != [0; 6]);
            prop_assert_eq!(Mac(octets).to_string().parse::<Mac>(), Ok(Mac(octets)));
        }
    }
}

use crate::spec::address::Subnet;
use std::net::IpAddr;

/// One L2 segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub(in crate::spec) name: String,
    pub(in crate::spec) subnets: Vec<Subnet>,
    pub(in crate::spec) uplink: Option<Vec<IpAddr>>,
    pub(in crate::spec) mtu: u32,
}

impl Network {
    /// What an Ethernet carries at most, in bytes.
    pub const DEFAULT_MTU: u32 = 1500;

    /// Its name: a host label.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its subnets: one, or one of each family; none on a raw network.
    pub fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    /// The tests own it: no addresses, and tagged frames pass.
    pub fn is_raw(&self) -> bool {
        self.subnets.is_empty()
    }

    /// The gateway addresses of its way out through the host, one for each subnet, if the file asks for one.
    pub fn uplink(&self) -> Option<&[IpAddr]> {
        self.uplink.as_deref()
    }

    /// The largest packet of a link of it, in bytes.
    pub fn mtu(&self) -> u32 {
        self.mtu
    }
}

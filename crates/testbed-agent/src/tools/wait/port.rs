//! Which ports are bound: `/proc/net/{tcp,udp}{,6}`, proc_pid_net(5).

use super::super::Doing;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use testbed_agent::Fault;

/// `TCP_LISTEN`
const LISTENING: &str = "0A";
/// `TCP_CLOSE`, which for UDP means: bound, and not connected.
const UNCONNECTED: &str = "07";

/// Somebody listens (TCP) or is bound (UDP) at the port, at the address or at one that covers it. `[::]` is taken to
/// cover IPv4, which it does unless the program has set `IPV6_V6ONLY`.
pub(super) fn is_bound(udp: bool, port: u16, address: Option<IpAddr>) -> Result<bool, Fault> {
    let (name, state) = if udp { ("udp", UNCONNECTED) } else { ("tcp", LISTENING) };
    for suffix in ["", "6"] {
        let path = format!("/proc/thread-self/net/{name}{suffix}");
        let file = match std::fs::File::open(&path) {
            // A kernel without IPv6.
            Err(error) if error.kind() == ErrorKind::NotFound && suffix == "6" => continue,
            file => file.doing_to("read", &path)?,
        };
        for line in BufReader::with_capacity(64 * 1024, file).lines().skip(1) {
            let line = line.doing_to("read", &path)?;
            if let Some((at, bound)) = bound(&line, state)
                && bound == port
                && address.is_none_or(|wanted| covers(at, wanted))
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The local end of a line's socket, if it is in the state.
fn bound(line: &str, state: &str) -> Option<(IpAddr, u16)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let found = words.nth(1)?;
    if found != state {
        return None;
    }
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits, each in the machine's own byte order.
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = if address.len() == 8 {
        IpAddr::V4(Ipv4Addr::from(word(0)?))
    } else {
        let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
        IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?))
    };
    Some((ip, port))
}

fn covers(at: IpAddr, wanted: IpAddr) -> bool {
    match at {
        IpAddr::V4(at) if at.is_unspecified() => wanted.is_ipv4(),
        IpAddr::V6(at) if at.is_unspecified() => true,
        at => at.to_canonical() == wanted.to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let v4 = "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1 1 00 100 0 0 10 0";
        assert_eq!(bound(v4, LISTENING), Some((Ipv4Addr::LOCALHOST.into(), 3306)));
        assert_eq!(bound(v4, UNCONNECTED), None);
        let v6 =
            "  13: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 07 0:0 00:0 0";
        assert_eq!(bound(v6, UNCONNECTED), Some((Ipv6Addr::LOCALHOST.into(), 22)));
        assert_eq!(bound("", LISTENING), None);
        assert_eq!(bound("0: zz:1 x 0A", LISTENING), None);
    }

    #[test]
    fn wide_addresses_cover_narrow_ones() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(covers(ip("0.0.0.0"), ip("10.0.0.1")) && covers(ip("::"), ip("10.0.0.1")));
        assert!(covers(ip("::ffff:10.0.0.1"), ip("10.0.0.1")));
        assert!(!covers(ip("0.0.0.0"), ip("fd00::1")) && !covers(ip("127.0.0.1"), ip("10.0.0.1")));
    }
}

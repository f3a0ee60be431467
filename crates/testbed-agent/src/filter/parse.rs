//! A text as a filter.
//!
//! As pcap-filter(7) has it: `and` and `or` bind equally and to the left; an address or number alone takes the
//! qualifiers of the one before it; `vlan` moves what stands to its right behind the tag.

use super::{Carrier, Filter, FilterError, Net4, Net6, Node, Side, Test, Transports, Version, ether, number};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest text taken, in bytes.
const MOST_TEXT: usize = 4096;
/// How deep parentheses and negations may nest.
const MOST_DEPTH: u8 = 50;
/// How many VLAN tags may be looked behind.
const MOST_TAGS: u8 = 8;

impl FromStr for Filter {
    type Err = FilterError;

    /// Reads a filter. An empty text is the filter that every packet matches.
    fn from_str(text: &str) -> Result<Filter, FilterError> {
        if text.len() > MOST_TEXT {
            return Err(FilterError {
                position: MOST_TEXT,
                length: text.len() - MOST_TEXT,
                problem: format!("longer than {MOST_TEXT} bytes"),
                hint: None,
            });
        }
        let mut parser =
            Parser { text, words: split(text), next: 0, tags: 0, depth: 0, last: None, values: false };
        if parser.words.is_empty() {
            return Ok(Filter::all());
        }
        let root = parser.expression()?;
        match parser.peek() {
            None => Ok(Filter { text: text.to_owned(), root }),
            Some(")") => Err(parser.here("no parenthesis is open")),
            Some(word) => Err(parser
                .here(format!("expected `and` or `or`, found `{word}`"))
                .with_hint(format!("to ask for both, write `and {word}`"))),
        }
    }
}

impl FilterError {
    fn with_hint(mut self, hint: impl Into<String>) -> FilterError {
        self.hint = Some(hint.into());
        self
    }
}

/// A word and where it begins.
type Word<'a> = (usize, &'a str);

fn split(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else { return words };
        let length = match first {
            '(' | ')' | '!' => 1,
            '&' | '|' if rest[1..].starts_with(first) => 2,
            _ => rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| c.is_whitespace() || matches!(c, '(' | ')' | '!' | '&' | '|'))
                .map_or(rest.len(), |(at, _)| at),
        };
        words.push((text.len() - rest.len(), &rest[..length]));
        rest = &rest[length..];
    }
}

/// What may stand in front of an address or number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Qualifiers {
    protocol: Option<Protocol>,
    side: Option<Side>,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ether,
    Ip,
    Ip6,
    Arp,
    Rarp,
    /// A protocol on IP: its number, where it is at home, and whether it has ports.
    On {
        number: u8,
        version: Version,
        ports: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

const PROTOCOLS: [(&str, Protocol); 17] = {
    const fn on(number: u8, version: Version, ports: bool) -> Protocol {
        Protocol::On { number, version, ports }
    }
    [
        ("ether", Protocol::Ether),
        ("ip", Protocol::Ip),
        ("ip6", Protocol::Ip6),
        ("arp", Protocol::Arp),
        ("rarp", Protocol::Rarp),
        ("tcp", on(number::TCP, Version::Any, true)),
        ("udp", on(number::UDP, Version::Any, true)),
        ("sctp", on(number::SCTP, Version::Any, true)),
        ("icmp", on(1, Version::V4, false)),
        ("icmp6", on(number::ICMP6, Version::V6, false)),
        ("igmp", on(2, Version::V4, false)),
        ("igrp", on(9, Version::V4, false)),
        ("esp", on(50, Version::Any, false)),
        ("ah", on(51, Version::Any, false)),
        ("pim", on(103, Version::Any, false)),
        ("vrrp", on(112, Version::V4, false)),
        ("carp", on(112, Version::V4, false)),
    ]
};

const KINDS: [(&str, Kind); 5] = [
    ("host", Kind::Host),
    ("net", Kind::Net),
    ("port", Kind::Port),
    ("portrange", Kind::PortRange),
    ("proto", Kind::Proto),
];

const OTHER_WORDS: [&str; 8] = ["and", "or", "not", "src", "dst", "vlan", "broadcast", "multicast"];

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value)
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<Word<'a>>,
    next: usize,
    tags: u8,
    depth: u8,
    /// The qualifiers of the condition before, for an address or number that stands alone.
    last: Option<Qualifiers>,
    /// Inside `port (80 or 443)`: nothing but addresses or numbers may stand here.
    values: bool,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.next).map(|(_, word)| *word)
    }

    fn accept(&mut self, wanted: &[&str]) -> bool {
        let found = self.peek().is_some_and(|word| wanted.contains(&word));
        self.next += usize::from(found);
        found
    }

    /// An error about the next word, or the end of the text.
    fn here(&self, problem: impl Into<String>) -> FilterError {
        let (position, word) = self.words.get(self.next).copied().unwrap_or((self.text.len(), ""));
        FilterError { position, length: word.len(), problem: problem.into(), hint: None }
    }

    /// An error about the word before the next one.
    fn back(&mut self, problem: impl Into<String>) -> FilterError {
        self.next = self.next.saturating_sub(1);
        self.here(problem)
    }

    fn test(&self, test: Test) -> Node {
        Node::Test { test, tags: self.tags }
    }

    fn expression(&mut self) -> Result<Node, FilterError> {
        let mut left = self.term()?;
        loop {
            if self.accept(&["and", "&&"]) {
                left = Node::And(Box::new(left), Box::new(self.term()?));
            } else if self.accept(&["or", "||"]) {
                left = Node::Or(Box::new(left), Box::new(self.term()?));
            } else {
                return Ok(left);
            }
        }
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        if self.depth == MOST_DEPTH {
            return Err(self.here(format!("nested deeper than {MOST_DEPTH}")));
        }
        self.depth += 1;
        let node = if self.accept(&["not", "!"]) {
            Node::Not(Box::new(self.term()?))
        } else if self.peek() == Some("(") {
            let before = self.last;
            let node = self.parenthesis()?;
            self.last = before;
            node
        } else {
            self.primitive()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn parenthesis(&mut self) -> Result<Node, FilterError> {
        let open = self.next;
        self.next += 1;
        let node = self.expression()?;
        if self.accept(&[")"]) {
            return Ok(node);
        }
        if let Some(word) = self.peek() {
            return Err(self.here(format!("expected `)`, `and` or `or`, found `{word}`")));
        }
        self.next = open;
        Err(self.here("this parenthesis is never closed"))
    }

    fn primitive(&mut self) -> Result<Node, FilterError> {
        let Some(word) = self.peek() else { return Err(self.here("expected a condition")) };
        if matches!(word, ")" | "and" | "or" | "&&" | "||") {
            return Err(self.here(format!("expected a condition, found `{word}`")));
        }
        if self.values {
            return self.bare(word);
        }
        if self.accept(&["vlan"]) {
            self.last = None;
            return self.vlan();
        }
        let start = self.next;
        let qualifiers = self.qualifiers();
        if let Qualifiers { protocol: None | Some(Protocol::Ether), side: None, kind: None } = qualifiers {
            let test = match self.peek() {
                Some("broadcast") => Some(Test::EtherAddress(Side::Destination, [0xff; 6])),
                Some("multicast") => Some(Test::EtherMulticast),
                _ => None,
            };
            if let Some(test) = test {
                self.next += 1;
                self.last = None;
                return Ok(self.test(test));
            }
        }
        if self.next == start {
            return self.bare(word);
        }
        if let Qualifiers { protocol: Some(protocol), side: None, kind: None } = qualifiers {
            self.last = None;
            return self.protocol_alone(protocol);
        }
        self.last = Some(qualifiers);
        if self.peek() == Some("(") {
            self.values = true;
            let node = self.parenthesis()?;
            self.values = false;
            return Ok(node);
        }
        self.value(qualifiers)
    }

    /// An address or number without qualifiers of its own.
    fn bare(&mut self, word: &str) -> Result<Node, FilterError> {
        let literal = word.starts_with(|c: char| c.is_ascii_digit()) || word.contains(':');
        match self.last {
            Some(last) if literal => self.value(last),
            _ if literal => Err(self.does_not_say(word)),
            _ => Err(self.unknown_word(word)),
        }
    }

    fn does_not_say(&self, word: &str) -> FilterError {
        let kind = match word {
            _ if parse_number(word).is_some() => "port",
            _ if word.contains('/') => "net",
            _ if parse_mac(word).is_some() => "ether host",
            _ => "host",
        };
        self.here(format!("`{word}` does not say what it is")).with_hint(format!("write `{kind} {word}`"))
    }

    fn unknown_word(&self, word: &str) -> FilterError {
        let error = self.here(format!("`{word}` is not known"));
        let known = PROTOCOLS.iter().map(|p| p.0).chain(KINDS.iter().map(|k| k.0)).chain(OTHER_WORDS);
        let nearest = known.map(|k| (distance(word, k), k)).min().filter(|(d, k)| *d <= k.len().div_ceil(3));
        if let Some((_, nearest)) = nearest {
            return error.with_hint(format!("did you mean `{nearest}`?"));
        }
        if word.contains('.') {
            return error.with_hint("names are not looked up here; write the address");
        }
        if word.contains(['[', '=', '<', '>']) || matches!(word, "less" | "greater" | "inbound" | "outbound")
        {
            return error.with_hint("this part of pcap-filter(7) is not offered");
        }
        error.with_hint("a condition begins like `host`, `net`, `port`, `tcp`, `ip6` or `ether proto`")
    }

    fn vlan(&mut self) -> Result<Node, FilterError> {
        let number = match self.peek() {
            Some(word) if word.starts_with(|c: char| c.is_ascii_digit()) => {
                let number = parse_number(word).filter(|n| *n < 4096);
                let Some(number) = number else {
                    return Err(self
                        .here(format!("`{word}` is not the number of a VLAN"))
                        .with_hint("0 to 4095"));
                };
                self.next += 1;
                Some(number as u16)
            }
            _ => None,
        };
        let node = self.test(Test::Vlan(number));
        if self.tags == MOST_TAGS {
            return Err(self.back(format!("more than {MOST_TAGS} times `vlan`")));
        }
        self.tags += 1;
        Ok(node)
    }

    fn qualifiers(&mut self) -> Qualifiers {
        let mut found = Qualifiers::default();
        if let Some(protocol) = self.peek().and_then(|word| find(&PROTOCOLS, word)) {
            found.protocol = Some(protocol);
            self.next += 1;
        }
        if self.accept(&["src"]) {
            found.side = Some(self.other_side("dst", Side::Source));
        } else if self.accept(&["dst"]) {
            found.side = Some(self.other_side("src", Side::Destination));
        }
        if let Some(kind) = self.peek().and_then(|word| find(&KINDS, word)) {
            found.kind = Some(kind);
            self.next += 1;
        }
        found
    }

    /// Reads the rest of `src or dst` and `src and dst`.
    fn other_side(&mut self, other: &str, one: Side) -> Side {
        let two = match (self.peek(), self.words.get(self.next + 1)) {
            (Some("or" | "||"), Some((_, word))) if *word == other => Side::Either,
            (Some("and" | "&&"), Some((_, word))) if *word == other => Side::Both,
            _ => return one,
        };
        self.next += 2;
        two
    }

    fn protocol_alone(&mut self, protocol: Protocol) -> Result<Node, FilterError> {
        let test = match protocol {
            Protocol::Ether => {
                return Err(self.here("expected `host`, `src`, `dst`, `proto`, `broadcast` or `multicast`"));
            }
            Protocol::Ip => Test::EtherType(ether::IP),
            Protocol::Ip6 => Test::EtherType(ether::IP6),
            Protocol::Arp => Test::EtherType(ether::ARP),
            Protocol::Rarp => Test::EtherType(ether::RARP),
            Protocol::On { number, version, .. } => Test::Protocol(version, number),
        };
        if let Some(word) = self.peek().filter(|w| w.starts_with(|c: char| c.is_ascii_digit())) {
            return Err(self.does_not_say(word));
        }
        Ok(self.test(test))
    }

    /// The address or number behind its qualifiers.
    fn value(&mut self, qualifiers: Qualifiers) -> Result<Node, FilterError> {
        let Some(word) = self.peek().filter(|word| !matches!(*word, "(" | ")" | "and" | "or" | "not" | "!"))
        else {
            let what = match qualifiers.kind {
                None | Some(Kind::Host) if qualifiers.protocol == Some(Protocol::Ether) => "a MAC address",
                None | Some(Kind::Host) => "an address",
                Some(Kind::Net) => "a network",
                Some(Kind::Port) => "a port",
                Some(Kind::PortRange) => "a range of ports",
                Some(Kind::Proto) => "a protocol",
            };
            return Err(self.here(format!("expected {what}")));
        };
        self.next += 1;
        let side = qualifiers.side.unwrap_or(Side::Either);
        match qualifiers.kind.unwrap_or(Kind::Host) {
            Kind::Host if qualifiers.protocol == Some(Protocol::Ether) => self.mac(word, side),
            Kind::Host => self.host(word, side, qualifiers.protocol),
            Kind::Net => self.net(word, side, qualifiers.protocol),
            Kind::Port => {
                let Some(port) = parse_port(word) else { return Err(self.not_a_port(word)) };
                self.ports(qualifiers, port, port)
            }
            Kind::PortRange => {
                let range = word.split_once('-').and_then(|(a, b)| Some((parse_port(a)?, parse_port(b)?)));
                let Some((a, b)) = range.or_else(|| parse_port(word).map(|port| (port, port))) else {
                    return Err(self.not_a_port(word).with_hint("write a range as `6000-6008`"));
                };
                self.ports(qualifiers, a.min(b), a.max(b))
            }
            Kind::Proto => self.proto(word, qualifiers),
        }
    }

    fn mac(&mut self, word: &str, side: Side) -> Result<Node, FilterError> {
        let Some(mac) = parse_mac(word) else {
            let error = self.back(format!("`{word}` is not a MAC address"));
            return Err(error.with_hint("six bytes in hexadecimal: `02:00:00:00:00:01`"));
        };
        Ok(self.test(Test::EtherAddress(side, mac)))
    }

    fn host(&mut self, word: &str, side: Side, protocol: Option<Protocol>) -> Result<Node, FilterError> {
        if let Ok(address) = word.parse::<Ipv4Addr>() {
            return self.net4(Net4 { address: address.to_bits(), mask: u32::MAX }, side, protocol);
        }
        if let Ok(address) = word.parse::<Ipv6Addr>() {
            return self.net6(Net6 { address: address.to_bits(), mask: u128::MAX }, side, protocol);
        }
        let error = self.back(format!("`{word}` is not an address"));
        Err(if word.contains('/') {
            error.with_hint(format!("write `net {word}` for all addresses of a network"))
        } else if parse_mac(word).is_some() {
            error.with_hint(format!("write `ether host {word}` for a MAC address"))
        } else if parse_number(word).is_some() {
            error.with_hint(format!("write `port {word}` for a port"))
        } else {
            error.with_hint("names are not looked up here; write an IPv4 or IPv6 address")
        })
    }

    fn net(&mut self, word: &str, side: Side, protocol: Option<Protocol>) -> Result<Node, FilterError> {
        let (address, prefix) = match word.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (word, None),
        };
        let Ok(prefix) = prefix.map(str::parse::<u32>).transpose() else {
            let error = self.back(format!("`{word}` has no prefix length behind `/`"));
            return Err(error.with_hint("write a network as `10.0.0.0/8` or `fd00::/8`"));
        };
        let outside = |this: &mut Parser<'a>, most: u32| {
            this.back(format!("the prefix length of `{word}` is over {most}"))
        };
        if let Some((address, natural)) = parse_partial4(address) {
            let prefix = prefix.unwrap_or(natural);
            if prefix > 32 {
                return Err(outside(self, 32));
            }
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            if address & !mask != 0 {
                let network = Ipv4Addr::from_bits(address & mask);
                let error = self.back(format!("`{word}` has bits set behind its prefix"));
                return Err(error.with_hint(format!("write `{network}/{prefix}`")));
            }
            return self.net4(Net4 { address, mask }, side, protocol);
        }
        if let Ok(address) = address.parse::<Ipv6Addr>() {
            let prefix = prefix.unwrap_or(128);
            if prefix > 128 {
                return Err(outside(self, 128));
            }
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            let address = address.to_bits();
            if address & !mask != 0 {
                let network = Ipv6Addr::from_bits(address & mask);
                let error = self.back(format!("`{word}` has bits set behind its prefix"));
                return Err(error.with_hint(format!("write `{network}/{prefix}`")));
            }
            return self.net6(Net6 { address, mask }, side, protocol);
        }
        let error = self.back(format!("`{word}` is not a network"));
        Err(error.with_hint("names are not looked up here; write a network as `10.0.0.0/8` or `fd00::/8`"))
    }

    fn net4(&mut self, net: Net4, side: Side, protocol: Option<Protocol>) -> Result<Node, FilterError> {
        let carrier = match protocol {
            None => Carrier::Any,
            Some(Protocol::Ip) => Carrier::Ip,
            Some(Protocol::Arp) => Carrier::Arp,
            Some(Protocol::Rarp) => Carrier::Rarp,
            Some(Protocol::Ip6) => return Err(self.back("an IPv4 address is not found in `ip6`")),
            Some(_) => return Err(self.not_together()),
        };
        Ok(self.test(Test::Net4(carrier, side, net)))
    }

    fn net6(&mut self, net: Net6, side: Side, protocol: Option<Protocol>) -> Result<Node, FilterError> {
        match protocol {
            None | Some(Protocol::Ip6) => Ok(self.test(Test::Net6(side, net))),
            Some(Protocol::Ip | Protocol::Arp | Protocol::Rarp) => {
                Err(self.back("an IPv6 address is only found in `ip6`"))
            }
            Some(_) => Err(self.not_together()),
        }
    }

    fn not_together(&mut self) -> FilterError {
        self.back("this protocol has no such address or port")
            .with_hint("join two conditions: `icmp and host 10.0.0.1`")
    }

    fn not_a_port(&mut self, word: &str) -> FilterError {
        let error = self.back(format!("`{word}` is not a port"));
        error.with_hint("a number from 0 to 65535; names of services are not looked up here")
    }

    fn ports(&mut self, qualifiers: Qualifiers, low: u16, high: u16) -> Result<Node, FilterError> {
        let transports = match qualifiers.protocol {
            None => Transports::Any,
            Some(Protocol::On { number, ports: true, .. }) => Transports::One(number),
            Some(Protocol::Ip | Protocol::Ip6) => {
                let error = self.back("a port cannot be asked for with `ip` or `ip6` in front");
                return Err(error.with_hint("join two conditions: `ip6 and port 53`"));
            }
            Some(_) => return Err(self.not_together()),
        };
        let side = qualifiers.side.unwrap_or(Side::Either);
        Ok(self.test(Test::Port { transports, side, low, high }))
    }

    fn proto(&mut self, word: &str, qualifiers: Qualifiers) -> Result<Node, FilterError> {
        if qualifiers.side.is_some() {
            return Err(self.back("a protocol has no source or destination"));
        }
        let name = word.strip_prefix('\\').unwrap_or(word);
        let number = parse_number(name);
        if qualifiers.protocol == Some(Protocol::Ether) {
            let kind = match find(&PROTOCOLS, name) {
                Some(Protocol::Ip) => Some(ether::IP),
                Some(Protocol::Ip6) => Some(ether::IP6),
                Some(Protocol::Arp) => Some(ether::ARP),
                Some(Protocol::Rarp) => Some(ether::RARP),
                _ => number.filter(|n| (0x600..=0xffff).contains(n)).map(|n| n as u16),
            };
            let Some(kind) = kind else {
                let error = self.back(format!("`{word}` is not an EtherType"));
                return Err(error.with_hint("a number from 0x600 to 0xffff, or ip, ip6, arp, rarp"));
            };
            return Ok(self.test(Test::EtherType(kind)));
        }
        let version = match qualifiers.protocol {
            None => Version::Any,
            Some(Protocol::Ip) => Version::V4,
            Some(Protocol::Ip6) => Version::V6,
            Some(_) => return Err(self.not_together()),
        };
        let number = match find(&PROTOCOLS, name) {
            Some(Protocol::On { number, .. }) => Some(number),
            _ => number.and_then(|n| u8::try_from(n).ok()),
        };
        let Some(number) = number else {
            let error = self.back(format!("`{word}` is not a protocol on IP"));
            return Err(error.with_hint("a number from 0 to 255, or a name such as tcp, udp, icmp"));
        };
        Ok(self.test(Test::Protocol(version, number)))
    }
}

/// A decimal number, or a hexadecimal one behind `0x`.
fn parse_number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None if word.starts_with('+') => None,
        None => word.parse().ok(),
    }
}

fn parse_port(word: &str) -> Option<u16> {
    parse_number(word).and_then(|n| n.try_into().ok())
}

/// `10.0.0.0`, or only its first bytes: `10`, `10.1`; with the prefix length that those bytes make.
fn parse_partial4(word: &str) -> Option<(u32, u32)> {
    let mut bytes = [0u8; 4];
    let mut count = 0;
    for part in word.split('.') {
        if part.len() > 1 && part.starts_with('0') || part.starts_with('+') {
            return None;
        }
        *bytes.get_mut(count)? = part.parse().ok()?;
        count += 1;
    }
    Some((u32::from_be_bytes(bytes), 8 * count as u32))
}

fn parse_mac(word: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = word.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next()?;
        if part.len() > 2 || part.starts_with('+') {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// How many letters must be put in, taken out or changed to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

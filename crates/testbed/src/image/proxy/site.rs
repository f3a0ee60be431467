//! The proxies of a site, as `http_proxy` and its like name them (curl(1), "ENVIRONMENT").

use super::request::authority;
use crate::spec::{Subnet, SubnetError};
use base64::Engine as _;
use std::fmt;
use std::net::IpAddr;
use testbed_agent::{Fault, FaultKind};

/// Through which proxies a site reaches what is outside. The library reads no environment: whoever calls it passes what
/// `http_proxy`, `https_proxy` and `no_proxy` say.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SiteProxy {
    /// For `http` URIs: `http://[USER:PASSWORD@]HOST[:PORT]`, or `HOST:PORT`.
    pub http: Option<String>,
    /// For tunnels, which are what `https` URIs need; written in the same way.
    pub https: Option<String>,
    /// What is reached without them, separated by commas: hosts, with all below them; addresses; networks as
    /// `10.0.0.0/8`; each but those with `:PORT` if it is for one port; `*` for all.
    pub except: Option<String>,
}

impl fmt::Debug for SiteProxy {
    /// Passwords are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |url: &Option<String>| {
            url.as_ref().map(|url| url.rsplit_once('@').map_or(url.clone(), |(_, host)| format!("…@{host}")))
        };
        f.debug_struct("SiteProxy")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("except", &self.except)
            .finish()
    }
}

/// A site's proxies, understood.
#[derive(Debug, Default)]
pub(super) struct Site {
    http: Option<Upstream>,
    https: Option<Upstream>,
    exceptions: Vec<Exception>,
}

/// One proxy.
#[derive(PartialEq, Eq)]
pub(super) struct Upstream {
    pub(super) host: String,
    pub(super) port: u16,
    /// What `Proxy-Authorization` says (RFC 7617).
    pub(super) authorization: Option<String>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Exception {
    All,
    /// This and all below it, in lower case.
    Name(String, Option<u16>),
    Network(Subnet, Option<u16>),
}

impl Site {
    pub(super) fn new(proxies: &SiteProxy) -> Result<Site, Fault> {
        let upstream = |url: &Option<String>| url.as_deref().map(Upstream::parse).transpose();
        let exceptions = proxies.except.as_deref().unwrap_or_default();
        let exceptions = exceptions.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        Ok(Site {
            http: upstream(&proxies.http)?,
            https: upstream(&proxies.https)?,
            exceptions: exceptions.map(Exception::parse).collect(),
        })
    }

    /// The proxy that a host is reached through.
    pub(super) fn on_the_way(&self, host: &str, port: u16, tunnel: bool) -> Option<&Upstream> {
        let upstream = if tunnel { &self.https } else { &self.http };
        upstream.as_ref().filter(|_| !self.exceptions.iter().any(|exception| exception.holds(host, port)))
    }
}

impl Upstream {
    fn parse(url: &str) -> Result<Upstream, Fault> {
        // No message shows the URL: it may hold a password.
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                let what = format!("use the site's proxy: it speaks `{scheme}`");
                return Err(Fault::new(FaultKind::Unsupported, what)
                    .hint("builds go through proxies that speak HTTP: http://HOST:PORT"));
            }
            None => url,
        };
        let rest = rest.split('/').next().unwrap_or_default();
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let (host, port) = authority(place, Some(80)).ok_or_else(|| {
            Fault::new(FaultKind::Invalid, "use the site's proxy: its URL makes no sense")
                .hint("it is written http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
        })?;
        let authorization = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let mut pair = decoded(name);
            pair.push(b':');
            pair.extend(decoded(password));
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        Ok(Upstream { host, port, authorization })
    }
}

/// What `%XX` stands for (RFC 3986 §2.1).
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

impl Exception {
    fn parse(text: &str) -> Exception {
        if text == "*" {
            return Exception::All;
        }
        let plain = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = plain.parse::<IpAddr>() {
            return Exception::Network(address.into(), None);
        }
        if let Ok(network) | Err(SubnetError::HostBits(network)) = text.parse() {
            return Exception::Network(network, None);
        }
        let (host, port) = match authority(text, Some(0)) {
            Some((host, 0)) => (host, None),
            Some((host, port)) => (host, Some(port)),
            None => (text.to_owned(), None),
        };
        match host.parse::<IpAddr>() {
            Ok(address) => Exception::Network(address.into(), port),
            Err(_) => {
                let name = host.trim_start_matches("*.").trim_start_matches('.').trim_end_matches('.');
                Exception::Name(name.to_ascii_lowercase(), port)
            }
        }
    }

    fn holds(&self, host: &str, port: u16) -> bool {
        let fits = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Exception::All => true,
            Exception::Name(name, wanted) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                let below = host.strip_suffix(name.as_str());
                fits(wanted) && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Exception::Network(network, wanted) => {
                fits(wanted) && host.parse().is_ok_and(|host| network.contains(host))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(except: &str) -> Site {
        Site::new(&SiteProxy {
            http: Some("http://us%40er:p%3Aw@proxy.example:3128/".into()),
            https: Some("proxy.example:3129".into()),
            except: Some(except.into()),
        })
        .unwrap()
    }

    #[test]
    fn proxies_are_named_as_everywhere() {
        let site = site("");
        let http = site.on_the_way("deb.example", 80, false).unwrap();
        assert_eq!((http.host.as_str(), http.port), ("proxy.example", 3128));
        // `us@er:p:w`
        assert_eq!(http.authorization.as_deref(), Some("Basic dXNAZXI6cDp3"));
        let tunnel = site.on_the_way("deb.example", 443, true).unwrap();
        assert_eq!((tunnel.port, &tunnel.authorization), (3129, &None));
        let wrong = |url: &str| {
            let proxies = SiteProxy { http: Some(url.into()), ..SiteProxy::default() };
            assert!(!format!("{proxies:?}").contains("secret"));
            Site::new(&proxies).unwrap_err()
        };
        let fault = wrong("socks5://u:secret@proxy:1080");
        assert!(
            fault.kind == FaultKind::Unsupported && !format!("{fault:?}").contains("secret"),
            "{fault:?}"
        );
        assert_eq!(wrong("http://u:secret@proxy:none").kind, FaultKind::Invalid);
        assert_eq!(wrong("http://").kind, FaultKind::Invalid);
    }

    #[test]
    fn exceptions_are_reached_without() {
        let direct = |except: &str, host: &str, port| site(except).on_the_way(host, port, false).is_none();
        for (except, host) in [
            ("*", "anything.example"),
            ("other, deb.example", "deb.example"),
            ("deb.example", "a.DEB.example."),
            (".deb.example", "a.deb.example"),
            (".deb.example", "deb.example"),
            ("*.deb.example", "a.deb.example"),
            ("deb.example:80", "deb.example"),
            ("10.0.0.0/8", "10.200.0.1"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::/8", "fd12::1"),
            ("::/0", "2001:db8::1"),
            ("[fd00::1]", "fd00::1"),
            ("10.1.2.3:80", "10.1.2.3"),
        ] {
            assert!(direct(except, host, 80), "{except} {host}");
        }
        for (except, host) in [
            ("", "deb.example"),
            ("deb.example", "notdeb.example"),
            ("deb.example:81", "deb.example"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/8", "a::1"),
            ("10.0.0.0/99", "10.0.0.1"),
        ] {
            assert!(!direct(except, host, 80), "{except} {host}");
        }
    }
}

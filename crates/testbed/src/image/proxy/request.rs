//! What a client asks a proxy for (RFC 9112 §3.2): an absolute URI, or a tunnel.

/// A request to a proxy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) host: String,
    pub(super) port: u16,
    /// Bytes are to be passed as they come (CONNECT, RFC 9110 §9.3.6).
    pub(super) tunnel: bool,
    method: String,
    path: String,
    /// All fields but those of this hop, each line with its end.
    fields: String,
}

/// Fields that are between a client and its proxy.
const OF_THIS_HOP: [&str; 4] = ["connection", "proxy-connection", "keep-alive", "proxy-authorization"];

impl Request {
    pub(super) fn parse(head: &[u8]) -> Option<Request> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?.to_owned(), words.next()?, words.next()?);
        if words.next().is_some() || !version.starts_with("HTTP/1.") {
            return None;
        }
        if method == "CONNECT" {
            let (host, port) = authority(target, None)?;
            return Some(Request {
                host,
                port,
                tunnel: true,
                method,
                path: String::new(),
                fields: String::new(),
            });
        }
        let rest = target.strip_prefix("http://")?;
        let (place, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = authority(place, Some(80))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        let mut fields = String::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            let (name, _) = line.split_once(':')?;
            if !OF_THIS_HOP.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                fields.push_str(line);
                fields.push_str("\r\n");
            }
        }
        let path = format!("{slash}{path}");
        Some(Request { host, port, tunnel: false, method, path, fields })
    }

    /// What the server itself is told; not for a tunnel.
    pub(super) fn to_server(&self) -> String {
        let Request { method, path, fields, .. } = self;
        format!("{method} {path} HTTP/1.1\r\n{fields}Connection: close\r\n\r\n")
    }

    /// What a proxy on the way is told.
    pub(super) fn to_proxy(&self, authorization: Option<&str>) -> String {
        let Request { method, path, fields, port, .. } = self;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let authorization =
            authorization.map_or(String::new(), |value| format!("Proxy-Authorization: {value}\r\n"));
        if self.tunnel {
            return format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
        }
        let place = if *port == 80 { host } else { format!("{host}:{port}") };
        format!("{method} http://{place}{path} HTTP/1.1\r\n{fields}{authorization}Connection: close\r\n\r\n")
    }
}

/// `host`, `host:port` or `[v6]:port`.
pub(super) fn authority(text: &str, port: Option<u16>) -> Option<(String, u16)> {
    if text.contains('@') {
        return None;
    }
    let (host, rest) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']')?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match rest.strip_prefix(':') {
        Some(number) => number.parse().ok()?,
        None if rest.is_empty() => port?,
        None => return None,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_to_servers_as_they_expect_them() {
        let head =
            b"GET http://deb.example:8080/a?b HTTP/1.1\r\nHost: deb.example\r\nConnection: keep-alive\r\n\
            Proxy-Authorization: Basic of-the-machine\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.host.as_str(), request.port, request.tunnel), ("deb.example", 8080, false));
        assert_eq!(
            request.to_server(),
            "GET /a?b HTTP/1.1\r\nHost: deb.example\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(
            request.to_proxy(Some("Basic x")),
            "GET http://deb.example:8080/a?b HTTP/1.1\r\nHost: deb.example\r\nProxy-Authorization: Basic x\r\n\
             Connection: close\r\n\r\n"
        );
        let bare = Request::parse(b"GET http://deb.example HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(bare.to_proxy(None), "GET http://deb.example/ HTTP/1.1\r\nConnection: close\r\n\r\n");
        let tunnel = Request::parse(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((tunnel.host.as_str(), tunnel.port, tunnel.tunnel), ("2001:db8::1", 443, true));
        assert_eq!(
            tunnel.to_proxy(None),
            "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"
        );
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "CONNECT host HTTP/1.1\r\n\r\n",
            "GET http://user@host/ HTTP/1.1\r\n\r\n",
            "GET http:///x HTTP/1.1\r\n\r\n",
            "GET http://h/ SMTP\r\n\r\n",
            "\r\n",
        ] {
            assert_eq!(Request::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}

use super::super::harness::{self, Net, Outcome, Streams, start};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use testbed_agent::FaultKind;
use testbed_agent::agent::{Report, Tool};

fn get(url: &str) -> Outcome {
    let tool = Tool::HttpGet { url: url.into(), host: None, wait_ms: 3000 };
    harness::run(&tool, Streams::default())
}

fn status(outcome: &Outcome) -> u16 {
    match &outcome.result {
        Ok(Report::Http { status, .. }) => *status,
        other => panic!("{other:?}"),
    }
}

/// Gets a page from a server that answers with these bytes and hangs up.
fn get_canned(answer: &[u8]) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let answer = answer.to_vec();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let _ = stream.write_all(&answer);
        String::from_utf8(request).unwrap()
    });
    let outcome = get(&url);
    assert!(server.join().unwrap().starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:"));
    outcome
}

#[test]
fn every_way_to_end_a_body_is_understood() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX-Other: 1\r\n\r\nhello",
        "HTTP/1.0 200 OK\n\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nhe\r\n003\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and more",
    ] {
        let outcome = get_canned(answer.as_bytes());
        assert_eq!(status(&outcome), 200, "{answer}");
        assert_eq!(outcome.output, b"hello", "{answer}");
    }
    let empty = get_canned(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX-A:  b \r\n\r\n");
    assert_eq!(empty.output, b"");
    let headers = vec![("content-length".into(), "5".into()), ("x-a".into(), "b".into())];
    assert_eq!(empty.report(), Report::Http { status: 204, headers });
}

#[test]
fn broken_answers_are_faults() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(20_000));
    for answer in [
        "",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 20x OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-",
        &long,
        &many,
    ] {
        let fault = get_canned(answer.as_bytes()).fault();
        assert_eq!(fault.kind, FaultKind::Protocol, "{answer:.60}: {fault}");
    }
}

#[test]
fn an_answer_that_never_comes_is_a_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let tool = Tool::HttpGet { url, host: None, wait_ms: 60 };
    let fault = harness::run(&tool, Streams::default()).fault();
    assert_eq!(fault.kind, FaultKind::Timeout);
}

fn serve(at: SocketAddr, folder: Option<String>, count: u32) -> harness::Started {
    let tool = Tool::HttpServe { at, folder, text: "a text\n".into(), count };
    start(&tool, Streams::default()).ready()
}

fn raw(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn one_text_answers_every_request() {
    let Some(net) = Net::new() else { return };
    net.enter();
    for at in ["127.0.0.1:80", "[::1]:80"] {
        let at: SocketAddr = at.parse().unwrap();
        let server = serve(at, None, 4);
        for path in ["", "/any/where?x=y"] {
            let outcome = get(&format!("http://{at}{path}"));
            assert_eq!((status(&outcome), &outcome.output[..]), (200, &b"a text\n"[..]));
        }
        let head = raw(at, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("Content-Length: 7\r\n"));
        assert!(head.ends_with("\r\n\r\n"));
        assert!(raw(at, "POST / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        let Report::Connections { first, all } = server.end().report() else { panic!() };
        assert_eq!((all, first[0].1, first[2].1), (4, 7, 0));
    }
}

#[test]
fn files_are_served_and_nothing_outside_the_folder_is() {
    let Some(net) = Net::new() else { return };
    let outside = harness::folder();
    let folder = harness::folder();
    std::fs::write(outside.path("secret"), "secret").unwrap();
    let content: Vec<u8> = (0..500_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(folder.path("big.json"), &content).unwrap();
    std::fs::create_dir(folder.path("sub")).unwrap();
    std::fs::write(folder.path("sub/index.html"), "index").unwrap();
    std::fs::write(folder.path("a b"), "space").unwrap();
    std::os::unix::fs::symlink("sub/index.html", folder.path("inner")).unwrap();
    std::os::unix::fs::symlink(outside.path("secret"), folder.path("absolute")).unwrap();
    let name = outside.path("").rsplit_once('/').unwrap().1.to_owned();
    std::os::unix::fs::symlink(format!("../{name}/secret"), folder.path("climbing")).unwrap();
    std::os::unix::fs::symlink("/proc/self/root/etc/passwd", folder.path("magic")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path("pipe"), rustix::fs::Mode::RUSR).unwrap();
    net.enter();
    let at: SocketAddr = "127.0.0.1:81".parse().unwrap();
    let server = serve(at, Some(folder.path("")), 0);
    let outcome = get(&format!("http://{at}/big.json"));
    assert!(outcome.output == content);
    let Report::Http { headers, .. } = outcome.report() else { panic!() };
    assert!(headers.contains(&("content-type".into(), "application/json".into())));
    for (path, body) in [("/sub", "index"), ("/sub/", "index"), ("/a%20b", "space"), ("/inner?q", "index")] {
        let outcome = get(&format!("http://{at}{path}"));
        assert_eq!((status(&outcome), String::from_utf8(outcome.output).unwrap().as_str()), (200, body));
    }
    let climb = format!("/../{name}/secret");
    let encoded = format!("/%2e%2e/{name}/secret");
    let through = format!("/sub/../../{name}/secret");
    let absolute = format!("/{}", outside.path("secret"));
    for path in [
        "/none",
        "/",
        "/absolute",
        "/climbing",
        "/magic",
        "/pipe",
        "/big.json/x",
        &climb,
        &encoded,
        &through,
        &absolute,
    ] {
        let outcome = get(&format!("http://{at}{path}"));
        assert_eq!((status(&outcome), &outcome.output[..]), (404, &b"Not Found\n"[..]), "{path}");
    }
    for bad in ["/%zz", "/%2", "/x%00y"] {
        assert_eq!(status(&get(&format!("http://{at}{bad}"))), 400, "{bad}");
    }
    assert!(raw(at, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(raw(at, "GET / HTTP/1.1\r\nbroken\r\n\r\n").starts_with("HTTP/1.1 400 "));
    let Report::Connections { all, .. } = server.stop().report() else { panic!() };
    assert_eq!(all, 21);
}

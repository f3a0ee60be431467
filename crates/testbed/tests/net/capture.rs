use crate::{SOON, engine, ping, reaches, up};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testbed::net::capture::{Options, Summary};
use testbed::net::recent::{Depth, Watcher};
use testbed_agent::pcapng::{Block, Decoder};

/// What was written so far, for a look while it is written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    /// The frames in it.
    fn frames(&self) -> Vec<Vec<u8>> {
        let bytes = self.0.lock().unwrap();
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        let mut frames = Vec::new();
        while let Some(block) = decoder.next_block().unwrap() {
            if let Block::Packet(packet) = block {
                frames.push(packet.data);
            }
        }
        frames
    }

    /// How often each frame is there that ends with such a mark.
    fn marks(&self) -> BTreeMap<String, usize> {
        let mut marks = BTreeMap::new();
        for frame in self.frames() {
            let Some(at) = frame.windows(5).position(|w| w == b"mark-") else { continue };
            let mark = frame[at + 5..].iter().take_while(|b| b.is_ascii_alphanumeric());
            *marks.entry(mark.map(|b| char::from(*b)).collect()).or_insert(0) += 1;
        }
        marks
    }
}

const RAW: &str = r#"
    [networks]
    wire = { raw = true }
    [machines.a]
    interfaces = { wire = { mac = "02:00:00:00:00:0a" } }
    [machines.b]
    interfaces = { wire = { mac = "02:00:00:00:00:0b" } }
    [machines.c]
    interfaces = { wire = { mac = "02:00:00:00:00:0c" } }
"#;

/// Sends one frame of each kind.
const SEND: &str = r#"
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
mac = lambda t: bytes.fromhex(t.replace(":", ""))
own, b, all = mac("02:00:00:00:00:0a"), mac("02:00:00:00:00:0b"), b"\xff" * 6
pad = b"." * 40
tag = mac("81:00:20:05")
for to, source, kind, mark in [
    (b, own, b"\x88\xb5", b"unicast"),
    (all, own, b"\x88\xb5", b"broadcast"),
    (b, own, tag + b"\x88\xb5", b"tagged"),
    (b, own, mac("88:a8:20:06") + tag + b"\x88\xb5", b"stacked"),
    (mac("01:80:c2:00:00:0e"), own, b"\x88\xcc", b"lldp"),
    (mac("01:80:c2:00:00:02"), own, b"\x88\x09", b"lacp"),
    (mac("02:00:00:00:00:99"), own, b"\x88\xb5", b"nobody"),
    (b, mac("02:00:00:00:00:77"), b"\x88\xb5", b"strange"),
]:
    s.send(to + source + kind + b"mark-" + mark + b"|" + pad)
"#;

/// Prints the marks of what arrives, until a second of silence after the first.
const RECEIVE: &str = r#"
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(("eth0", 3))
index = socket.if_nametoindex("eth0")
for group in "0180c200000e", "0180c2000002":
    s.setsockopt(263, 1, struct.pack("=iHH8s", index, 0, 6, bytes.fromhex(group)))
s.setsockopt(263, 8, 1)
open("/tmp/listens", "w").close()
s.settimeout(30)
seen = []
try:
    while True:
        data, control, _, address = s.recvmsg(2000, 1000)
        if b"mark-" in data and address[2] != 4:
            s.settimeout(1)
            tag = [d for l, t, d in control if l == 263 and t == 8]
            status, tci = (struct.unpack_from("=I", tag[0])[0], struct.unpack_from("=H", tag[0], 16)[0]) if tag else (0, 0)
            name = data.split(b"mark-")[1].split(b"|")[0].decode()
            seen.append(name + (":%d" % (tci & 0xfff) if status & 16 else ""))
except TimeoutError:
    pass
print(" ".join(sorted(seen)))
"#;

#[test]
fn raw_networks_pass_every_kind_of_frame_and_captures_see_each_once() {
    let bed = up(RAW);
    let watched = bed.watch(&Watcher::new(), "wire", Depth::default()).unwrap();
    let page = Page::default();
    let capture = bed.capture(Options::all("wire"), page.clone()).unwrap();
    let receivers: Vec<_> = ["b", "c"]
        .into_iter()
        .map(|name| {
            let (running, pipes) = bed[name].command(["python3", "-c", RECEIVE]).spawn().unwrap();
            bed[name].wait_for_file("/tmp/listens", SOON).unwrap();
            (running, pipes)
        })
        .collect();
    bed["a"].command(["python3", "-c", SEND]).output().unwrap();
    let heard: Vec<String> = receivers
        .into_iter()
        .map(|(mut running, pipes)| {
            let mut text = String::new();
            io::Read::read_to_string(&mut std::fs::File::from(pipes.stdout.unwrap()), &mut text).unwrap();
            assert!(running.wait(Some(SOON)).unwrap().0.success());
            text.trim().to_owned()
        })
        .collect();
    assert_eq!(heard[0], "broadcast lacp lldp stacked:6 strange tagged:5 unicast");
    assert_eq!(heard[1], "broadcast lacp lldp");
    let summary = capture.stop().unwrap();
    let all = ["broadcast", "lacp", "lldp", "nobody", "stacked", "strange", "tagged", "unicast"];
    assert_eq!(page.marks(), all.into_iter().map(|mark| (mark.to_owned(), 1)).collect());
    assert_eq!(summary, Summary { packets: page.frames().len() as u64, dropped: 0 });
    let tagged = page.frames().into_iter().find(|f| f.windows(11).any(|w| w == b"mark-tagged")).unwrap();
    assert_eq!(tagged[12..16], [0x81, 0, 0x20, 5], "the tag is in its place");
    let last = watched.last();
    assert!(last.len() as u64 >= summary.packets, "those before the capture began as well: {last:?}");
    assert_eq!(last.iter().filter(|seen| seen.text.starts_with("vlan 5, ")).count(), 1, "{last:?}");
}

const LAN: &str = r#"
    [networks]
    lan = { subnet = "10.0.0.0/24" }
    [machines.a]
    interfaces = { lan = "10.0.0.1" }
    [machines.b]
    interfaces = { lan = "10.0.0.2" }
"#;

#[test]
fn captures_are_live_filtered_and_end_by_count_deadline_and_word() {
    let bed = up(LAN);
    assert!(reaches(&bed, "a", "10.0.0.2"));
    let filter = "icmp and host 10.0.0.2".parse().unwrap();
    let page = Page::default();
    let options = Options { filter, count: 3, ..Options::all("lan") };
    let capture = bed.capture(options, page.clone()).unwrap();
    assert_eq!(ping(&bed, "a", "10.0.0.2", 1, 8).0, 1);
    // Live: what has passed can be read while the capture runs.
    let end = Instant::now() + SOON;
    while page.frames().len() < 2 {
        assert!(Instant::now() < end, "nothing was written");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ping(&bed, "a", "10.0.0.2", 5, 8).0, 5);
    assert_eq!(capture.wait().unwrap().packets, 3);
    assert_eq!(page.frames().len(), 3);

    let options = Options { deadline: Some(Duration::from_millis(50)), ..Options::all("lan") };
    let start = Instant::now();
    bed.capture(options, io::sink()).unwrap().wait().unwrap();
    assert!((Duration::from_millis(50)..SOON).contains(&start.elapsed()));

    // A reader that goes ends the capture without a fault.
    let (reader, writer) = io::pipe().unwrap();
    let capture = bed.capture(Options::all("lan"), writer).unwrap();
    drop(reader);
    assert!(reaches(&bed, "a", "10.0.0.2"));
    capture.wait().unwrap();
    assert!(bed.capture(Options::all("none"), io::sink()).is_err());
}

#[test]
fn what_was_sent_before_the_word_is_in_the_capture() {
    let bed = up(LAN);
    for _ in 0..10 {
        let page = Page::default();
        let options = Options { filter: "icmp".parse().unwrap(), ..Options::all("lan") };
        let capture = bed.capture(options, page.clone()).unwrap();
        assert_eq!(ping(&bed, "a", "10.0.0.2", 20, 1000).0, 20);
        assert_eq!(capture.stop().unwrap(), Summary { packets: 40, dropped: 0 });
        assert_eq!(page.frames().len(), 40);
    }
}

#[test]
fn the_last_packets_of_a_network_can_be_read() {
    let bed = up(LAN);
    let watcher = Watcher::new();
    let depth = Depth { packets: 10, age: Duration::from_secs(30) };
    let watched = bed.watch(&watcher, "lan", depth).unwrap();
    assert_eq!(watched.last(), []);
    assert_eq!(ping(&bed, "a", "10.0.0.2", 20, 1000).0, 20);
    let last = watched.last();
    assert_eq!(last.len(), 10);
    assert!(last.is_sorted_by_key(|seen| seen.time_ns));
    let text = &last[9].text;
    assert!(text.contains("10.0.0.2 > 10.0.0.1") && text.contains("echo reply"), "{text}");
    drop(watched);
    let short = Depth { packets: 10, age: Duration::ZERO };
    let watched = bed.watch(&watcher, "lan", short).unwrap();
    assert_eq!(ping(&bed, "a", "10.0.0.2", 2, 8).0, 2);
    assert_eq!(watched.last(), [], "too old");
    let _ = engine();
}

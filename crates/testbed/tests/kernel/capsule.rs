//! Testbeds in one machine with a kernel of its own.

use super::{answered, up};

#[test]
fn its_machines_are_as_any_others() {
    let began = std::time::Instant::now();
    let bed = up("capsule");
    eprintln!("up {:?}", began.elapsed());
    let left = &bed["left"];
    assert_eq!(left.succeed("hostname").unwrap(), "left\n");
    eprintln!("{}", left.succeed("ls /sys/class/net; cat /proc/net/route /proc/net/fib_trie; cat /etc/hosts; uname -a").unwrap());
    eprintln!("{}", bed["router"].succeed("cat /proc/net/route; cat /proc/sys/net/ipv4/ip_forward; cat /proc/net/dev").unwrap());
    let pings = [("left", "10.0.0.1"), ("left", "10.0.0.2"), ("left", "10.1.0.1"), ("router", "10.1.0.2"), ("left", "10.1.0.2")];
    for (from, to) in pings {
        eprintln!("{from} {to} {}", answered(&bed, from, to, 56));
    }
    eprintln!("{}", bed.service_log("left", "console").unwrap().tail(4096));
    assert_eq!(answered(&bed, "left", "10.1.0.2", 56), 3);
}

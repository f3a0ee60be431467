use crate::{reaches, up};
use std::time::{Duration, Instant};

const TWO: &str = r#"
    [networks]
    a = { subnet = ["10.1.0.0/24", "fd01::/64"] }
    b = { subnet = "10.2.0.0/24" }
    [machines.left]
    interfaces = { a = ["10.1.0.1", "fd01::1"], b = "10.2.0.1" }
    [machines.right]
    interfaces = { a = ["10.1.0.2", "fd01::2"], b = "10.2.0.2" }
    routes = { "10.9.0.0/16" = "10.1.0.1" }
    [machines.other]
    interfaces = { a = ["10.1.0.3", "fd01::3"], b = "10.2.0.3" }
"#;

#[test]
fn a_cut_link_carries_nothing_either_way_and_keeps_all_it_has() {
    let bed = up(TWO);
    // A state that the kernel has not looked at yet is as good as up (RFC 2863, ifOperStatus).
    let state = "ip -br addr show eth0 | sed 's/UNKNOWN/UP/; s/  */ /g'; ip route; ip -6 route show dev eth0";
    let before = bed["right"].succeed(state).unwrap();
    assert!(reaches(&bed, "left", "10.1.0.2") && reaches(&bed, "right", "fd01::1"));
    let start = Instant::now();
    bed.cut("right", Some("a")).unwrap();
    let took = start.elapsed();
    for (from, to) in [("left", "10.1.0.2"), ("right", "10.1.0.1"), ("left", "fd01::2"), ("right", "fd01::3")]
    {
        assert!(!reaches(&bed, from, to), "{from} to {to}");
    }
    assert!(reaches(&bed, "left", "10.2.0.2"), "its other link is untouched");
    assert!(reaches(&bed, "left", "10.1.0.3"), "others are untouched");
    assert_eq!(bed["right"].succeed(state).unwrap(), before);
    let start = Instant::now();
    bed.heal("right", Some("a")).unwrap();
    let healed = start.elapsed();
    assert!(reaches(&bed, "left", "10.1.0.2") && reaches(&bed, "right", "fd01::1"));
    assert_eq!(bed["right"].succeed(state).unwrap(), before);
    eprintln!("cut in {took:?}, healed in {healed:?}");
    assert!(took.max(healed) < Duration::from_millis(200), "cut in {took:?}, healed in {healed:?}");
}

#[test]
fn a_cut_acts_on_connections_that_run() {
    let bed = up(TWO);
    let script = "import socket\nc, _ = socket.create_server(('10.1.0.1', 7)).accept()\nn = 0\nwhile d := c.recv(9): n += len(d)\nassert n == 40\n";
    let (mut listener, _pipes) = bed["left"].command(["python3", "-c", script]).spawn().unwrap();
    bed["left"].wait_for_port(7, crate::SOON).unwrap();
    let script = "import socket,time\ns=socket.create_connection(('10.1.0.1',7))\nfor i in range(40):\n s.send(b'x'); time.sleep(0.01)\n";
    let (mut sender, _pipes) = bed["right"].command(["python3", "-c", script]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(150));
    bed.cut("right", None).unwrap();
    std::thread::sleep(Duration::from_millis(150));
    bed.heal("right", None).unwrap();
    // TCP sends again what was lost: the connection outlives the cut, and ends well.
    assert!(sender.wait(Some(crate::SOON)).unwrap().0.success());
    assert!(listener.wait(Some(crate::SOON)).unwrap().0.success());
}

#[test]
fn a_machine_is_cut_from_all_its_networks_at_once() {
    let bed = up(TWO);
    bed.cut("right", None).unwrap();
    for to in ["10.1.0.2", "10.2.0.2", "fd01::2"] {
        assert!(!reaches(&bed, "left", to), "{to}");
    }
    bed.heal("right", None).unwrap();
    // Who asked for a neighbour while it was gone asks again once a second.
    for to in ["10.1.0.2", "10.2.0.2", "fd01::2"] {
        assert!((0..10).any(|_| reaches(&bed, "left", to)), "{to}");
    }
}

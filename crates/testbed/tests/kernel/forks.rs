//! Many forks of one network that is at work.

use super::{SOON, answered, up};
use std::collections::HashSet;
use std::time::Duration;
use testbed::Bed;

/// How many forks are made; the bar is 100.
const FORKS: &str = "TESTBED_FORKS";
/// As many as are made at once.
const AT_ONCE: usize = 2;

/// Sends numbers through the tunnel by one connection for as long as it lasts, and keeps the last that came back.
const TALK: &str = r#"exec perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(PeerAddr => "10.2.0.10:7") or die; $s->autoflush(1);
    for (my $n = 1;; $n++) {
        print $s "$n\n"; my $l = <$s> or die;
        open(my $f, ">", "/run/new"); print $f $l; close $f; rename "/run/new", "/run/talk";
        select(undef, undef, undef, 0.1);
    }'"#;
const ANSWER: &str = r#"exec perl -MIO::Socket::INET -e '
    my $s = IO::Socket::INET->new(LocalPort => 7, Listen => 1) or die;
    my $c = $s->accept; $c->autoflush(1); print $c $_ while <$c>'"#;

fn talked(bed: &Bed) -> u32 {
    bed["client1"].succeed("cat /run/talk").unwrap().trim().parse().unwrap()
}

/// What must be the same in all forks.
fn same(bed: &Bed) -> Vec<String> {
    let addresses = bed.machines().map(|m| m.succeed("cat /sys/class/net/*/address; hostname").unwrap());
    addresses.collect()
}

#[test]
fn a_tunnel_stands_in_each_of_many_forks() {
    let bed = up("../../../../examples/openvpn/capsule");
    let (_answers, _pipes) = bed["client2"].shell(ANSWER).spawn().unwrap();
    bed["client2"].wait_for_port(7, SOON).unwrap();
    let (_talks, _pipes) = bed["client1"].shell(TALK).spawn().unwrap();
    bed["client1"].wait_for_file("/run/talk", SOON).unwrap();
    bed.snapshot("talking", &[]).unwrap();
    let (then, known) = (talked(&bed), same(&bed));

    let wanted: usize = std::env::var(FORKS).map_or(2 * AT_ONCE, |n| n.parse().unwrap());
    let mut seen = HashSet::new();
    while seen.len() < wanted {
        let uuids: Vec<String> = std::thread::scope(|scope| {
            let forks: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| use_fork(&bed, then, &known))).collect();
            forks.into_iter().map(|fork| fork.join().unwrap()).collect()
        });
        for uuid in uuids {
            assert!(seen.insert(uuid.clone()), "fork {} draws {uuid} again", seen.len());
        }
    }
    // The network that they are forks of has not noticed.
    let before = talked(&bed);
    assert!(before > then);
    bed["client1"].succeed(&format!("until [ $(cat /run/talk) -gt {before} ]; do sleep 0.05; done")).unwrap();
}

/// Uses a fork as a test would; gives a random number that it has drawn.
fn use_fork(bed: &Bed, then: u32, known: &[String]) -> String {
    let fork = bed.fork(Some("talking")).unwrap();
    assert_eq!(answered(&fork, "client1", "10.2.0.10", 56), 3);
    let on = format!("until [ $(cat /run/talk) -gt {} ]; do sleep 0.05; done", then + 2);
    assert!(fork["client1"].shell(on).deadline(SOON).output().unwrap().success(), "the connection goes on");
    assert_eq!(same(&fork), known);
    // What the daemon has said since the fork: nothing of another handshake.
    let log = fork.service_log("gw1", "openvpn").unwrap().tail(4096);
    assert!(!log.contains("Initial") && !log.contains("restart"), "{log}");
    let uuid = fork["client1"].succeed("cat /proc/sys/kernel/random/uuid").unwrap();
    fork.kill(Duration::from_secs(10)).unwrap();
    uuid
}

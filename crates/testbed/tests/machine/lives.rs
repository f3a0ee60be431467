//! Machines that end and start again, and beds that go back to what they were.

use crate::beds::up;
use crate::common::checked;
use crate::host::SOON;
use std::collections::BTreeSet;
use testbed::FaultKind;
use testbed::bed::{Bed, Change, ChangeKind, Ending, HostOnly, Options};
use testbed::machine::Condition;
use testbed_agent::agent::{Report, Tool};

/// A server that counts its starts in a file that stays, and a client.
const PAIR: &str = r#"
    [networks]
    lan = { subnet = "10.3.0.0/24" }
    [machines.server]
    interfaces = { lan = "10.3.0.1" }
    files = { "/etc/greeting" = { content = "hello" } }
    services = { count = "echo start >>/root/starts; echo counted; exec sleep 1000" }
    ready = { log = "counted" }
    [machines.client]
    interfaces = { lan = "10.3.0.2" }
"#;

fn reaches(bed: &Bed, from: &str, to: &str) -> bool {
    let target = to.parse().unwrap();
    let tool = Tool::Ping { target, count: 1, interval_ms: 0, wait_ms: 300, size: 8, interface: None };
    matches!(bed[from].tool(tool, SOON).unwrap(), Report::Ping { received: 1, .. })
}

fn starts(bed: &Bed) -> usize {
    bed["server"].succeed("cat /root/starts").unwrap().lines().count()
}

#[test]
fn one_that_has_ended_answers_nobody() {
    let bed = up(PAIR);
    assert!(reaches(&bed, "client", "10.3.0.1"));
    bed.stop("server", Ending::Soft).unwrap();
    assert!(!reaches(&bed, "client", "10.3.0.1"), "it was stopped");
    bed.start("server").unwrap();
    assert!((0..20).any(|_| reaches(&bed, "client", "10.3.0.1")));
    // Out of memory, or by whatever else ends a process 1.
    let its = bed["server"].pid().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-9", &its]).status().unwrap().success());
    bed["server"].wait_ended(SOON).unwrap();
    assert!(!reaches(&bed, "client", "10.3.0.1"), "it has ended");
}

#[test]
fn a_restart_keeps_files_and_starts_services_anew() {
    let bed = up(PAIR);
    let server = bed["server"].clone();
    let first = server.pid().unwrap();
    server
        .succeed("echo changed >/etc/greeting; echo gone >/run/x; sysctl -qw net.ipv4.ip_forward=1")
        .unwrap();
    bed.cut("client", None).unwrap();
    for (n, ending) in [Ending::Soft, Ending::Hard].into_iter().enumerate() {
        bed.restart("server", ending).unwrap();
        assert_eq!(starts(&bed), n + 2);
        assert_eq!(server.condition(), Condition::Running, "an older handle is of the same machine");
        assert_eq!(server.succeed("cat /etc/greeting; ls /run/x 2>&1 | wc -l").unwrap(), "changed\n1\n");
        assert_eq!(server.succeed("cat /proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
    }
    assert_ne!(server.pid().unwrap(), first);
    bed.restart("client", Ending::Hard).unwrap();
    assert!(!reaches(&bed, "client", "10.3.0.1"), "a cut link stays cut");
    bed.heal("client", None).unwrap();
    // The neighbour that was asked for in vain is asked for again every second (arp(7), retrans_time_ms).
    assert!((0..20).any(|_| reaches(&bed, "client", "10.3.0.1")));
    let log = bed.service_log("server", "count").unwrap();
    assert_eq!(log.tail(1000), "counted\n".repeat(3));
}

#[test]
fn a_soft_end_lets_programs_end_by_themselves() {
    let bed = up(PAIR);
    let trap =
        "trap 'echo asked >/root/asked; exit' TERM; echo ready >/run/ready; while :; do sleep 0.1; done";
    let (_trap, _pipes) = bed["client"].shell(trap).spawn().unwrap();
    bed["client"].wait_for_file("/run/ready", SOON).unwrap();
    bed.stop("client", Ending::Soft).unwrap();
    assert_eq!(bed["client"].condition(), Condition::Stopped);
    assert_eq!(bed.stop("client", Ending::Soft).unwrap_err().kind, FaultKind::State);
    assert_eq!(bed["client"].shell("true").status().unwrap_err().kind, FaultKind::State);
    bed.start("client").unwrap();
    assert_eq!(bed["client"].succeed("cat /root/asked").unwrap(), "asked\n");
    assert_eq!(bed.start("client").unwrap_err().kind, FaultKind::State);
    assert!(reaches(&bed, "client", "10.3.0.1"));
}

#[test]
fn a_bed_goes_back_to_a_snapshot_as_often_as_one_likes() {
    let bed = up(PAIR);
    let tree = "mkdir -p /srv/a/b; echo one >/srv/a/b/f; ln /srv/a/b/f /srv/hard; ln -s a /srv/soft;
                chown 33:34 /srv/a; chmod 2751 /srv/a; truncate -s 1G /srv/holes; touch -d @1000 /srv/a/b/f;
                rm -r /usr/share/doc; mkdir /usr/share/doc; cp /bin/true /srv/true; chmod 4755 /srv/true";
    bed["server"].succeed(tree).unwrap();
    let look = "cd /srv; cat a/b/f; stat -c '%n %u:%g %a %h %s %Y %F' a/b/f soft true holes; stat -c '%n %u:%g %a' a;
                ls -A /usr/share/doc | wc -l; test /srv/hard -ef /srv/a/b/f && echo same";
    let before = bed["server"].succeed(look).unwrap();
    bed.snapshot("base", &[]).unwrap();
    bed["server"]
        .succeed("echo two >/srv/a/b/f; rm -r /srv/soft /srv/holes; echo new >/usr/share/doc/new")
        .unwrap();
    bed["client"].succeed("echo kept >/root/kept").unwrap();
    bed.snapshot("later", &["server"]).unwrap();
    for _ in 0..3 {
        bed.rollback("base", &["server"]).unwrap();
        assert_eq!(bed["server"].succeed(look).unwrap(), before);
        assert_eq!(starts(&bed), 2, "the one before the snapshot, and the one after the rollback");
        bed["server"].succeed("rm -r /srv; echo x >>/root/starts").unwrap();
    }
    bed.rollback("later", &[]).unwrap();
    assert_eq!(
        bed["server"].succeed("cat /srv/a/b/f /usr/share/doc/new; ls /srv").unwrap(),
        "two\nnew\na\nhard\ntrue\n"
    );
    assert_eq!(bed["client"].succeed("cat /root/kept").unwrap(), "kept\n", "it was not in that snapshot");
    assert!(reaches(&bed, "client", "10.3.0.1"));
    bed.rollback("base", &[]).unwrap();
    assert_eq!(bed["server"].succeed(look).unwrap(), before);
    bed["client"].fail("cat /root/kept").unwrap();
}

#[test]
fn snapshots_form_a_tree_with_clear_errors() {
    let bed = up(PAIR);
    bed.snapshot("a", &[]).unwrap();
    bed.snapshot("b", &["client"]).unwrap();
    bed.rollback("a", &[]).unwrap();
    bed.snapshot("c", &[]).unwrap();
    let tree: Vec<_> =
        bed.snapshots().into_iter().map(|s| (s.name, s.parent, s.machines.len(), s.current)).collect();
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        tree,
        [("a".into(), None, 2, false), ("b".into(), some("a"), 1, false), ("c".into(), some("a"), 2, true)]
    );
    assert_eq!(bed.snapshot("a", &[]).unwrap_err().kind, FaultKind::Exists);
    assert_eq!(bed.snapshot("a/b", &[]).unwrap_err().kind, FaultKind::Invalid);
    assert_eq!(bed.snapshot("d", &["none"]).unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(bed.rollback("none", &[]).unwrap_err().hint.unwrap(), "there are: a, b, c");
    assert_eq!(bed.rollback("b", &["server"]).unwrap_err().kind, FaultKind::NotFound);
    let fault = bed.delete_snapshot("a", false).unwrap_err();
    assert!(fault.kind == FaultKind::State && fault.operation.contains("b, c"), "{fault}");
    bed.delete_snapshot("b", false).unwrap();
    bed.delete_snapshot("a", true).unwrap();
    assert_eq!(bed.snapshots(), []);
    assert!(bed["server"].shell("true").status().unwrap().success(), "what stands on it goes on");
}

#[test]
fn stopped_and_paused_machines_are_in_a_snapshot_too() {
    let bed = up(PAIR);
    bed["client"].succeed("echo stopped >/root/f").unwrap();
    bed.stop("client", Ending::Hard).unwrap();
    bed["server"].succeed("echo paused >/root/f").unwrap();
    bed["server"].pause().unwrap();
    bed.snapshot("s", &[]).unwrap();
    assert_eq!(bed["server"].condition(), Condition::Paused, "it stays as it was");
    bed["server"].resume().unwrap();
    bed.start("client").unwrap();
    bed["client"].succeed("cat /root/f; echo more >/root/f; rm /root/.bashrc 2>/dev/null || true").unwrap();
    bed["server"].succeed("echo more >/root/f").unwrap();
    bed.rollback("s", &[]).unwrap();
    assert_eq!(bed["client"].succeed("cat /root/f").unwrap(), "stopped\n");
    assert_eq!(bed["server"].succeed("cat /root/f").unwrap(), "paused\n");
}

#[test]
fn a_fork_lives_beside_its_origin() {
    let bed = up(PAIR);
    bed["server"].succeed("echo origin >/etc/greeting").unwrap();
    bed.cut("client", None).unwrap();
    bed.snapshot("s", &[]).unwrap();
    bed["server"].succeed("echo later >/etc/greeting").unwrap();
    bed.heal("client", None).unwrap();
    let (now, then) = (bed.fork(None).unwrap(), bed.fork(Some("s")).unwrap());
    assert_eq!(now["server"].succeed("cat /etc/greeting").unwrap(), "later\n");
    assert_eq!(then["server"].succeed("cat /etc/greeting").unwrap(), "origin\n");
    assert!(reaches(&now, "client", "10.3.0.1") && !reaches(&then, "client", "10.3.0.1"));
    then["server"].succeed("echo fork >/etc/greeting").unwrap();
    assert_eq!(starts(&then), 2);
    drop(bed);
    assert!(reaches(&now, "client", "10.3.0.1"), "it needs its origin no more");
    assert_eq!(now["server"].succeed("cat /etc/greeting").unwrap(), "later\n");
}

#[test]
fn changes_tell_what_is_new_other_and_gone() {
    let bed = up(PAIR);
    let own = || -> BTreeSet<(String, ChangeKind)> {
        let all = bed.changes("client").unwrap().into_iter();
        all.map(|Change { path, kind }| (path, kind)).collect()
    };
    let before = own();
    bed["client"]
        .succeed("echo x >/etc/new; echo y >>/etc/passwd; rm /etc/issue; mkdir -p /opt/d/e; echo z >/opt/d/e/f; echo t >/tmp/t")
        .unwrap();
    let expected = |all: &BTreeSet<(String, ChangeKind)>| {
        let changed: Vec<_> = all.difference(&before).cloned().collect();
        let of = |kind| changed.iter().filter(|c| c.1 == kind).map(|c| c.0.as_str()).collect::<Vec<_>>();
        assert_eq!(of(ChangeKind::Added), ["/etc/new", "/opt/d", "/opt/d/e", "/opt/d/e/f"]);
        assert_eq!(of(ChangeKind::Changed), ["/etc/passwd"]);
        assert_eq!(of(ChangeKind::Removed), ["/etc/issue"]);
    };
    expected(&own());
    bed.snapshot("s", &[]).unwrap();
    bed.rollback("s", &[]).unwrap();
    bed.stop("client", Ending::Hard).unwrap();
    expected(&own());
    bed.start("client").unwrap();
    bed["client"].succeed("rm -r /opt/d /etc/new; echo back >/etc/issue").unwrap();
    let changed: Vec<_> = own().difference(&before).cloned().collect();
    assert_eq!(
        changed,
        [("/etc/issue".into(), ChangeKind::Changed), ("/etc/passwd".into(), ChangeKind::Changed)]
    );
}

#[test]
fn files_in_memory_go_with_the_last_who_needs_them() {
    let engine = testbed::host::engine().unwrap();
    let bed = Bed::up(&engine, &checked(PAIR), &HostOnly, &Options::default()).unwrap();
    let launcher = format!("/proc/{}/fd", engine.launcher_pid());
    let count = || std::fs::read_dir(&launcher).unwrap().count();
    bed.snapshot("s", &[]).unwrap();
    bed.rollback("s", &[]).unwrap();
    let before = count();
    for _ in 0..5 {
        bed.rollback("s", &[]).unwrap();
        drop(bed.fork(Some("s")).unwrap());
    }
    // What has been let go is closed with the next order at the latest.
    bed.restart("client", Ending::Hard).unwrap();
    assert!(count() <= before + 1, "{} descriptors, and {before} before", count());
}

//! What would be made, and why.

use super::testbed;
use insta::assert_snapshot;
use std::sync::Arc;
use testbed::FaultKind;
use testbed::plan::{Host, Plan, PlannedKernel, decide_kernels, start_order};
use testbed::spec::{Kernel, Machine, Testbed};

fn host(capabilities: &[&str]) -> Host {
    Host {
        kernel: "6.18.0".into(),
        capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        own_kernels: true,
    }
}

const FILE: &str = r#"
name = "pair"
[images.web]
base = "base"
run = "make\ninstall"
files = { "/etc/x" = "gw1.conf", "/etc/y" = { content = "y" } }
[images.base]
base = "debian:bookworm"
packages = ["nginx", "curl"]
[images.spare]
base = "./root.tar"
[networks]
lan = { subnet = ["10.0.0.0/24", "fd00::/64"], uplink = true }
wire = { raw = true, mtu = 9000 }
[machines.client]
depends = ["web"]
interfaces = { lan = {}, wire = {} }
[machines.web]
image = "web"
interfaces = { lan = "10.0.0.80" }
services = ["nginx"]
limits = { memory = "512M", cpus = 0.5 }
disk = "128M"
[machines.tagged]
image = "base"
needs = ["vlan"]
[[tests]]
name = "fetch"
on = "client"
run = "curl web"
[[tests]]
name = "first"
on = "host"
run = "true"
group = "g"
[[tests]]
name = "alone"
on = "web"
run = "false"
expect = "failure"
timeout = "90s"
[[tests]]
name = "second"
on = "host"
run = "true"
group = "g"
needs = ["netem"]
[[tests]]
name = "third"
on = "client"
run = "true"
group = "g"
[[tests]]
name = "tags"
on = "tagged"
run = "true"
group = "g"
needs = ["vlan", "vxlan"]
"#;

#[test]
fn a_plan_says_what_would_be_made_in_which_order_and_why() {
    assert_snapshot!(Plan::new(&testbed(FILE), &host(&["vlan", "netem", "vxlan"])), @"
    pair: 4 images, 2 networks, 3 machines, 6 tests in 3 copies

    images
      host: the host's own root, read-only (for client)
      base: Debian bookworm, from packages (for tagged; below the image web)
        + install nginx, curl (`packages` of the image)
      web: the image base (for web)
        + put /etc/x from /bed/gw1.conf, /etc/y from the file's text (`files` of the image)
        + run make … (`run` of the image)
      spare: the tar file /bed/root.tar (the file declares it; nothing uses it)

    networks
      lan: 10.0.0.0/24, fd00::/64, mtu 1500, way out by 10.0.0.1, fd00::1; on it: client, web
      wire: raw, mtu 9000; on it: client

    machines
      web: image web, shared kernel (it needs nothing special)
        eth0 on lan: 10.0.0.80/24, ce:89:8f:4d:2d:0e
        gateway 10.0.0.1
        services nginx
        limits memory 512M, cpus 0.5, disk 128M
      client: image host, shared kernel (it needs nothing special)
        starts after web
        eth0 on lan: 10.0.0.2/24, fd00::2/64, da:ad:41:19:9d:25
        eth1 on wire: no address, 7e:20:62:c6:cd:5f
        gateway 10.0.0.1, fd00::1
      tagged: image base, shared kernel (the host's kernel has vlan)

    tests
      copy 1, of its own
        fetch on client, at most 60s
      copy 2, of the group g
        first on host, at most 60s
        second on host, at most 60s
        third on client, at most 60s
        tags on tagged, at most 60s
      copy 3, of its own
        alone on web, at most 90s, expected to fail
    ");
}

#[test]
fn what_the_host_lacks_chooses_the_kernel_and_skips_tests() {
    let plan = Plan::new(&testbed(FILE), &host(&[]));
    let tagged = plan.machines.iter().find(|machine| machine.name == "tagged").unwrap();
    assert_eq!((tagged.kernel, &*tagged.why), (PlannedKernel::Own, "the host's kernel 6.18.0 has no vlan"));
    assert_eq!(plan.obstacles, []);
    // What a kernel of its own has is known when it runs.
    assert!(plan.copies.iter().flat_map(|copy| &copy.tests).any(|test| test.id == "tags"));
    assert_snapshot!(serde_json::to_string_pretty(&plan.skipped).unwrap(), @r#"
    [
      {
        "id": "second",
        "why": "the host's kernel 6.18.0 has no netem"
      }
    ]
    "#);
}

#[test]
fn kernels_are_chosen_and_explained() {
    let bed = testbed(
        r#"
        [machines]
        any = {}
        can = { needs = ["tun", "module:wireguard"] }
        cannot = { needs = ["vlan"] }
        must = { kernel = "shared", needs = ["vlan", "netem"] }
        asks = { kernel = "own", image = "debian:sid" }
        wants-more = { kernel = "own", image = "debian:sid", needs = ["netem"] }
        tags = { image = "debian:sid", needs = ["tun", "vlan"] }
        shares = { image = "debian:sid", needs = ["vlan"], mounts = { "/code" = "." } }
        shows = { image = "debian:sid", screen = true, needs = ["tun"] }
        shows-own = { image = "debian:sid", screen = true, kernel = "own" }
        shows-more = { image = "debian:sid", screen = true, mounts = { "/code" = "." } }
        shares-own = { image = "debian:sid", kernel = "own", mounts = { "/code" = "." } }
        "#,
    );
    let plan = Plan::new(&bed, &host(&["tun", "module:wireguard"]));
    let chosen: Vec<String> = plan
        .machines
        .iter()
        .map(|machine| format!("{} {:?}: {}", machine.name, machine.kernel, machine.why))
        .collect();
    assert_snapshot!(chosen.join("\n"), @"
    any Shared: it needs nothing special
    can Shared: the host's kernel has tun, module:wireguard
    cannot Own: the host's kernel 6.18.0 has no vlan
    must Shared: the file asks for it
    asks Own: the file asks for it
    wants-more Own: the file asks for it
    tags Own: the host's kernel 6.18.0 has no vlan
    shares Own: the host's kernel 6.18.0 has no vlan
    shows Own: it has a screen
    shows-own Own: the file asks for it
    shows-more Own: it has a screen
    shares-own Own: the file asks for it
    ");
    let obstacles: Vec<String> = plan
        .obstacles
        .iter()
        .map(|obstacle| format!("{}: {}; {}", obstacle.machine, obstacle.why, obstacle.hint))
        .collect();
    assert_snapshot!(obstacles.join("\n"), @r#"
    cannot: the host's kernel 6.18.0 has no vlan, and the host's root cannot run on a kernel of its own; load its modules, or give the machine another image, for example `debian:bookworm`
    must: the host's kernel 6.18.0 has no vlan, netem; load its modules, or leave `kernel = "shared"` away
    shares: the host's kernel 6.18.0 has no vlan, and machines with kernels of their own have no live mounts yet; load its modules, or copy by `files` what it mounts
    shows-more: it has a screen, and machines with kernels of their own have no live mounts yet; leave `screen` away, or copy by `files` what it mounts
    shares-own: machines with kernels of their own have no live mounts yet; leave `kernel` away, if the host's kernel will do
    "#);
}

#[test]
fn what_is_made_goes_by_the_kernels_that_were_chosen() {
    let bed = Arc::new(testbed(
        r#"
        [defaults]
        image = "debian:sid"
        [machines]
        any = {}
        tags = { needs = ["vlan"] }
        asks = { kernel = "own" }
        "#,
    ));
    let kernels = |testbed: &Testbed| testbed.machines().iter().map(Machine::kernel).collect::<Vec<_>>();
    let here = host(&["vlan"]);
    let decided = decide_kernels(&bed, &here).unwrap();
    assert_eq!(kernels(&decided), [Kernel::Shared, Kernel::Shared, Kernel::Own]);
    let decided = decide_kernels(&bed, &host(&[])).unwrap();
    assert_eq!(kernels(&decided), [Kernel::Shared, Kernel::Own, Kernel::Own]);
    // Once and for all.
    assert_eq!(kernels(&decide_kernels(&decided, &here).unwrap()), kernels(&decided));

    let bed = Arc::new(testbed("[machines.m]\nneeds = [\"vlan\"]"));
    let fault = decide_kernels(&bed, &host(&[])).unwrap_err();
    assert_eq!((fault.kind, fault.machine.as_deref()), (FaultKind::Unsupported, Some("m")));
    assert!(fault.hint.is_some_and(|hint| hint.contains("another image")));

    let bed = Arc::new(testbed("[machines.m]\nimage = \"debian:sid\"\nneeds = [\"vlan\"]"));
    let fault = decide_kernels(&bed, &Host { own_kernels: false, ..host(&[]) }).unwrap_err();
    let why = "make it here: the host's kernel 6.18.0 has no vlan, and machines have no kernels of their own on this \
               kind of processor";
    assert_eq!(fault.operation, why);
}

#[test]
fn machines_start_after_those_they_depend_on() {
    let bed = testbed(
        r#"
        [machines]
        a = { depends = ["c"] }
        b = {}
        c = { depends = ["d"], count = 2 }
        d = {}
        "#,
    );
    let order: Vec<&str> = start_order(&bed).into_iter().map(Machine::name).collect();
    assert_eq!(order, ["b", "d", "c-1", "c-2", "a"]);
}

#[test]
fn several_machines_that_lack_something_share_a_capsule() {
    let file = |more: &str| {
        testbed(&format!(
            r#"
            name = "pair"
            [defaults]
            image = "debian:bookworm"
            [machines.a]
            needs = ["vlan", "netem"]
            [machines.b]
            needs = ["vlan"]
            [machines.c]
            {more}
            "#
        ))
    };
    let kernels = |bed: &Testbed, host: &Host| -> Vec<PlannedKernel> {
        Plan::new(bed, host).machines.into_iter().map(|machine| machine.kernel).collect()
    };
    use PlannedKernel::{Capsule, Own, Shared};
    let bed = file("");
    assert_eq!(kernels(&bed, &host(&["vlan", "netem"])), [Shared, Shared, Shared]);
    // One alone has its own.
    assert_eq!(kernels(&bed, &host(&["vlan"])), [Own, Shared, Shared]);
    assert_eq!(kernels(&bed, &host(&["netem"])), [Capsule, Capsule, Capsule]);
    let plan = Plan::new(&bed, &host(&[]));
    assert_eq!(plan.machines[0].why, "the testbed is a capsule; the host's kernel has no vlan, netem");
    assert_eq!(plan.machines[2].why, "the testbed is a capsule");
    assert!(decide_kernels(&Arc::new(bed), &host(&[])).unwrap().capsule().is_some());
    // One that cannot be in a capsule keeps the others out of it.
    for other in ["image = \"host\"", "kernel = \"own\"", "mounts = { \"/code\" = \".\" }"] {
        let bed = file(other);
        assert_eq!(kernels(&bed, &host(&[]))[..2], [Own, Own], "{other}");
        assert!(decide_kernels(&Arc::new(bed), &host(&[])).unwrap().capsule().is_none());
    }
}

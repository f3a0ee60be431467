//! Copies of a capsule whose network has become ready, against hypervisors that go on with the same memory.

use super::kernels::{STORE, words_of};
use super::{LONG, by_turns, checked, engine};
use crate::Outcome;
use crate::floor::Floor;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use testbed::bed::{Bed, Images as _, Options, Prepared, StoredImages};
use testbed::image::Store;

/// Two sites and a tunnel between them, as of the example, and a page on the far side.
fn openvpn() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/openvpn");
    let gateway = |name: &str, site: &str, address: &str| {
        format!(
            r#"
            [machines.{name}]
            interfaces = {{ {site}, transit = "{address}" }}
            router = true
            files = {{ "/etc/openvpn/site.conf" = "{folder}/{name}.conf", "/etc/nftables.conf" = "{folder}/nftables.conf" }}
            services = {{ firewall = "nft -f /etc/nftables.conf", openvpn = "openvpn --config /etc/openvpn/site.conf" }}
            ready = {{ log = "Initialization Sequence Completed" }}
            "#
        )
    };
    let packages =
        r#""openvpn", "openssl", "nftables", "iproute2", "iputils-ping", "netcat-openbsd", "procps", "curl""#;
    let page = "while :; do printf 'HTTP/1.0 200 OK\\\\r\\\\n\\\\r\\\\nhello' | nc -N -l 80 >/dev/null; done";
    format!(
        r#"
        capsule = true
        [images.vpn]
        base = "debian:bookworm"
        packages = [{packages}]
        files = {{ "/etc/openvpn/make-keys" = {{ source = "{folder}/make-keys", mode = "755" }} }}
        run = ["/etc/openvpn/make-keys gw1 gw2"]
        [defaults]
        image = "vpn"
        [networks]
        site1 = {{ subnet = "10.1.0.0/24" }}
        transit = {{ subnet = "192.0.2.0/24" }}
        site2 = {{ subnet = "10.2.0.0/24" }}
        {gw1}
        {gw2}
        [machines.client1]
        interfaces = {{ site1 = "10.1.0.10" }}
        gateway = "10.1.0.1"
        [machines.client2]
        interfaces = {{ site2 = "10.2.0.10" }}
        gateway = "10.2.0.1"
        services = {{ web = "{page}" }}
        ready = {{ port = 80 }}
        [machines.cm]
        interfaces = {{ transit = "192.0.2.100" }}
        "#,
        gw1 = gateway("gw1", "site1 = \"10.1.0.1\"", "192.0.2.11"),
        gw2 = gateway("gw2", "site2 = \"10.2.0.1\"", "192.0.2.12"),
    )
}

const PING: [&str; 5] = ["ping", "-c", "1", "-W5", "10.2.0.10"];
const PAGE: [&str; 5] = ["curl", "-s", "-m", "10", "http://10.2.0.10/"];

/// Until a ping through the tunnel is answered, and until a page has come.
pub(crate) fn capsules(rounds: usize) -> Outcome<()> {
    let (engine, spec) = (engine()?, checked(&openvpn())?);
    let store = Store::open(STORE)?;
    let options = testbed::image::Options::default();
    let stored = StoredImages { store: &store, engine: engine.clone(), options, progress: &|_| {} };
    let images = Prepared::new(&spec, &stored)?;
    let bed = Bed::up(&engine, &spec, &images, &Options::default())?;
    // What tests run is in memory by then.
    for command in [&PING, &PAGE] {
        run(&bed, command)?;
    }
    bed.snapshot("ready", &[])?;
    let jail = images.resolve_capsule(&spec)?.jail;
    let kept = Kept::of(&bed)?;
    let layers: Vec<&str> = [kept.folder.as_path()]
        .into_iter()
        .chain(jail.layers.iter().map(PathBuf::as_path))
        .filter_map(Path::to_str)
        .collect();
    let layers = layers.join(":");
    for (name, command) in [("a capsule to a ping", &PING), ("a capsule to a page", &PAGE)] {
        let words = ["capsule", &command.join(" "), &layers].map(str::to_owned);
        let words: Vec<&str> = words.iter().chain(&kept.words).map(String::as_str).collect();
        let pair = by_turns(rounds, &mut Floor::start(&words)?, || {
            let begun = Instant::now();
            let fork = bed.fork(Some("ready"))?;
            run(&fork, command)?;
            let took = begun.elapsed();
            fork.kill(LONG)?;
            Ok(took)
        })?;
        pair.tell(name, 1.35);
    }
    Ok(bed.kill(LONG)?)
}

fn run(bed: &Bed, command: &[&str]) -> Outcome<()> {
    match bed["client1"].command(command.iter().copied()).status()?.success() {
        true => Ok(()),
        false => Err(format!("{} has failed", command.join(" ")).into()),
    }
}

/// What a copy of a capsule goes on with, kept where the floor finds it, and the words of its hypervisor.
struct Kept {
    folder: PathBuf,
    words: Vec<String>,
}

impl Kept {
    fn of(bed: &Bed) -> Outcome<Kept> {
        let fork = bed.fork(Some("ready"))?;
        let jail = fork.capsule().ok_or("no capsule")?.pid()?;
        let words = words_of(super::kernels::hypervisor_in(jail)?)?;
        let memory = words.iter().find_map(|word| word.split_once("mem-path=")?.1.split(',').next());
        let place = Path::new(memory.ok_or("no memory")?).parent().ok_or("no folder")?.to_owned();
        let place = place.strip_prefix("/")?.to_owned();
        // In memory, as ours is.
        let folder = Path::new("/dev/shm").join(format!("testbed-bench-{}", std::process::id()));
        let kept = Kept { folder, words };
        fs::create_dir_all(kept.folder.join(&place))?;
        let inside = PathBuf::from(format!("/proc/{jail}/root"));
        for file in ["memory", "devices"] {
            let from = inside.join(&place).join(file);
            fs::copy(from, kept.folder.join(&place).join(file))?;
        }
        fork.kill(LONG)?;
        Ok(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // It is in memory, and goes with that at the latest.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

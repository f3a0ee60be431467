//! `examples/openvpn`: two sites and a tunnel between them.

use std::time::Duration;
use testbed::Testbed;

const HEALS: Duration = Duration::from_secs(30);

fn folder() -> &'static str {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/openvpn")
}

#[test]
fn a_tunnel_carries_breaks_and_heals() {
    let bed = Testbed::load(folder()).unwrap().up().unwrap_or_else(|fault| {
        panic!(
            "{fault}\n{}\n{}",
            fault.hint.clone().unwrap_or_default(),
            fault.log.clone().unwrap_or_default()
        )
    });
    bed["client1"].succeed("ping -c 1 -W 2 10.2.0.10").unwrap();
    bed["client2"].succeed("ping -c 1 -W 2 10.1.0.10").unwrap();
    bed["client1"].fail("ping -c 1 -W 1 192.0.2.100").unwrap();
    bed["cm"].fail("ping -c 1 -W 1 10.1.0.10").unwrap();
    bed["gw2"].succeed("pkill openvpn").unwrap();
    bed["client1"].fail("ping -c 1 -W 1 10.2.0.10").unwrap();
    let (_daemon, _pipes) =
        bed["gw2"].command(["openvpn", "--config", "/etc/openvpn/site.conf"]).spawn().unwrap();
    bed["client1"].wait_until_succeeds("ping -c 1 -W 1 10.2.0.10", HEALS).unwrap();
}

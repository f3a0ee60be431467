//! What `vmrun` and VIX can do, done with machines that share the host's kernel. The table in docs/reference/vmrun.md names
//! the test of each row.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

#[path = "../common/mod.rs"]
mod common;
mod files;
mod network;
mod power;
mod programs;
mod snapshots;
mod table;
mod variables;

use common::checked;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use testbed::bed::{Bed, HostOnly, Options};
use testbed::{Engine, Testbed};
use testbed_agent::agent::{Report, Tool};

const SOON: Duration = Duration::from_secs(20);

/// Two machines on a network.
const TWO: &str = "[networks]\nlan = { subnet = ['10.1.0.0/24', 'fd01::/64'] }
[machines.a]\ninterfaces = { lan = ['10.1.0.1', 'fd01::1'] }
[machines.b]\ninterfaces = { lan = ['10.1.0.2', 'fd01::2'] }\n";

/// A machine that says hello to whoever connects to port 7 of its loopback.
const HELLO: &str = r#"
    [machines.a]
    services = { hello = '''python3 -c "
import socket
server = socket.create_server(('127.0.0.1', 7))
while True:
    client = server.accept()[0]
    client.sendall(b'hello')
    client.close()
"''' }
    ready = { port = 7 }
"#;

fn up(text: &str) -> Bed {
    up_checked(&checked(text))
}

fn up_checked(testbed: &Arc<Testbed>) -> Bed {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| testbed::host::engine().unwrap());
    let options = Options { free_ports: true, ..Options::default() };
    Bed::up(&ENGINE, testbed, &HostOnly, &options).unwrap()
}

/// Whether an answer comes to a ping.
fn reaches(bed: &Bed, from: &str, to: &str) -> bool {
    let target = to.parse().unwrap();
    let tool = Tool::Ping { target, count: 1, interval_ms: 0, wait_ms: 300, size: 8, interface: None };
    matches!(bed[from].tool(tool, SOON).unwrap(), Report::Ping { received: 1, .. })
}

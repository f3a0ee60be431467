//! Networks for real: captured, cut, left by the uplink, entered by published ports.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]
#![expect(clippy::print_stderr, reason = "what cannot be tested here is told loudly")]

mod capture;
#[path = "../common/mod.rs"]
mod common;
mod forward;
mod links;
mod uplink;

use common::checked;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;
use testbed::Engine;
use testbed::bed::{Bed, HostOnly, Options};
use testbed_agent::agent::{Report, Tool};

const SOON: Duration = Duration::from_secs(10);

fn engine() -> Engine {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| testbed::host::engine().unwrap());
    ENGINE.clone()
}

fn up(text: &str) -> Bed {
    up_with(text, &Options { free_ports: true, ..Options::default() })
}

fn up_with(text: &str, options: &Options) -> Bed {
    Bed::up(&engine(), &checked(text), &HostOnly, options).unwrap()
}

/// How many of `count` echo requests were answered, and what the network said instead.
fn ping(bed: &Bed, from: &str, to: &str, count: u32, size: u16) -> (u32, Option<String>) {
    let target: IpAddr = to.parse().unwrap();
    let tool = Tool::Ping { target, count, interval_ms: 1, wait_ms: 1000, size, interface: None };
    match bed[from].tool(tool, SOON).unwrap() {
        Report::Ping { received, refused, .. } => (received, refused),
        other => panic!("{other:?}"),
    }
}

fn reaches(bed: &Bed, from: &str, to: &str) -> bool {
    ping(bed, from, to, 1, 8).0 == 1
}

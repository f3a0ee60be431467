//! What programs find in a machine that may drive its testbed.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails, also in what tests share")]

#[path = "../common/mod.rs"]
mod common;
mod hostile;
mod relay;
mod rights;
mod words;

use common::checked;
use std::sync::LazyLock;
use std::time::Duration;
use testbed::Engine;
use testbed::bed::{Bed, HostOnly, Options};

const SOON: Duration = Duration::from_secs(20);

/// A driver and two others.
const THREE: &str = r#"
    [networks]
    lan = { subnet = "10.1.0.0/24" }
    [machines.driver]
    interfaces = { lan = "10.1.0.1" }
    control = true
    [machines.one]
    interfaces = { lan = "10.1.0.2" }
    [machines.two]
    interfaces = { lan = "10.1.0.3" }
"#;

fn up(text: &str) -> Bed {
    static ENGINE: LazyLock<Engine> = LazyLock::new(|| testbed::host::engine().unwrap());
    Bed::up(&ENGINE, &checked(text), &HostOnly, &Options::default()).unwrap()
}

/// Status, standard output and standard error of a text for the driver's shell.
fn drive(bed: &Bed, text: &str) -> (i32, String, String) {
    let output = bed["driver"].shell(text).deadline(SOON).output().unwrap();
    assert!(!output.timed_out, "{text}: {output:?}");
    (output.exit.shell_code(), output.text(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What a text for the driver's shell prints; it has to end with this status.
fn ends(bed: &Bed, status: i32, text: &str) -> String {
    let (code, stdout, stderr) = drive(bed, text);
    assert_eq!(code, status, "{text}\n{stdout}{stderr}");
    stdout + &stderr
}

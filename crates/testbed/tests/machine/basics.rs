use crate::host::{self, SOON, machine};
use std::time::Instant;
use testbed::Engine;
use testbed::machine::Condition;

pub(crate) fn engine() -> Engine {
    host::engine().expect("these tests need root")
}

#[test]
fn a_machine_runs_commands_and_goes() {
    let Some(engine) = host::engine() else { return };
    let m = machine(&engine);
    let output = m.command(["echo", "hello"]).output().unwrap();
    assert!(output.success(), "{output:?}");
    assert_eq!(output.text(), "hello\n");
    let output = m.shell("hostname; id -u; pwd; echo oops >&2; exit 3").output().unwrap();
    assert_eq!(output.text(), "m\n0\n/root\n");
    assert_eq!(output.stderr, b"oops\n");
    assert_eq!(output.exit, testbed_agent::agent::Exit::Code(3));
    assert_eq!(m.condition(), Condition::Running);
    m.kill(SOON).unwrap();
    assert_eq!(m.condition(), Condition::Stopped);
    let t = Instant::now();
    for _ in 0..100 {
        let m = machine(&engine);
        assert!(m.command(["true"]).status().unwrap().success());
        m.kill(SOON).unwrap();
    }
    eprintln!("{:?} each", t.elapsed() / 100);
}

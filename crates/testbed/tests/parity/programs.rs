//! Programs and scripts in machines, and their processes.

use crate::{SOON, TWO, up};
use std::time::Duration;
use testbed::FaultKind;
use testbed_agent::agent::{Condition, Process, Tool};

#[test]
fn a_program_gives_its_status_and_both_streams() {
    let bed = up(TWO);
    let output = bed["a"].shell("printf 'a\\000b'; printf err >&2; exit 7").output().unwrap();
    assert_eq!(
        (output.exit.shell_code(), &output.stdout[..], &output.stderr[..]),
        (7, &b"a\0b"[..], &b"err"[..])
    );
    let long = bed["a"].shell("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2").output().unwrap();
    assert_eq!((long.stdout.len(), long.stderr.len()), (3_000_000, 3_000_000), "more than pipes hold");
    let input: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    assert!(bed["a"].command(["cat"]).input(input.clone()).output().unwrap().stdout == input);
    let unknown = bed["a"].command(["no-such-program"]).output().unwrap_err();
    assert_eq!((unknown.kind, unknown.machine.as_deref()), (FaultKind::NotFound, Some("a")));
}

#[test]
fn a_program_that_takes_too_long_is_killed() {
    let bed = up(TWO);
    let run = bed["a"].shell("sleep 73.07 & echo begun; wait").deadline(Duration::from_millis(300));
    let output = run.output().unwrap();
    assert!(output.timed_out && !output.success());
    assert_eq!(output.text(), "begun\n");
    // Its children were killed as well, and have ended or do so now.
    let left = bed["a"].processes().unwrap().into_iter().find(|process| process.command.contains("73.07"));
    if let Some(Process { pid, .. }) = left {
        bed["a"].tool(Tool::Wait(Condition::Exit { pid }), Duration::from_secs(5)).unwrap();
    }
}

#[test]
fn a_program_without_waiting_gives_its_number() {
    let bed = up(TWO);
    let (mut running, _pipes) = bed["a"].shell("echo $$ >/root/pid; exec sleep 74.07").spawn().unwrap();
    let pid = running.pid().unwrap();
    bed["a"].wait_until_succeeds(&format!("grep -qx {pid} /root/pid"), SOON).unwrap();
}

#[test]
fn a_script_runs_by_its_interpreter_and_leaves_nothing() {
    let bed = up(TWO);
    let before = bed["a"].list("/tmp").unwrap();
    let text = "import sys\nprint(sys.argv[1:], 'quotes \" and $HOME')\nsys.exit(3)\n";
    let script = bed["a"].command(["python3", "-u"]).script(text);
    let output = script.output().unwrap();
    assert_eq!(
        (output.exit.shell_code(), output.text().as_str()),
        (3, "[] quotes \" and $HOME\n"),
        "{output:?}"
    );
    let as_nobody = bed["a"].command(["sh", "-e"]).script("id -un; read line; echo $line").user("nobody");
    assert_eq!(as_nobody.input("typed\n").output().unwrap().text(), "nobody\ntyped\n");
    let long = format!("x='{}'; echo ${{#x}}", "y".repeat(60_000));
    assert_eq!(bed["a"].command(["sh"]).script(long).output().unwrap().text(), "60000\n");
    assert_eq!(bed["a"].list("/tmp").unwrap(), before);
    let unknown = bed["a"].command(["no-such-interpreter"]).script("x").output().unwrap_err();
    assert_eq!(unknown.kind, FaultKind::NotFound);
}

#[test]
fn processes_are_listed_and_killed() {
    let bed = up(TWO);
    let text = "touch /tmp/begun; sleep 75.07; :";
    let (mut running, _pipes) = bed["a"].shell(text).user("nobody").spawn().unwrap();
    bed["a"].wait_for_file("/tmp/begun", SOON).unwrap();
    let all = bed["a"].processes().unwrap();
    let shell = all.iter().find(|its| its.command == format!("/bin/sh -c {text}")).unwrap();
    assert_eq!((shell.pid, shell.parent, shell.uid), (running.pid().unwrap(), 1, 65534));
    assert!(all.iter().any(|its| its.pid == 1));
    let pid = shell.pid;
    bed["a"].signal(pid as i32, 9).unwrap();
    bed["a"].tool(Tool::Wait(Condition::Exit { pid }), SOON).unwrap();
    assert_eq!(bed["a"].signal(pid as i32, 9).unwrap_err().kind, FaultKind::NotFound);
}

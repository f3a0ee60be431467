//! Machines that end and start again, snapshots and forks, by the command.

use crate::begun::processes_with;
use crate::stays::{Up, eventually};

const TWO: &str = "[networks]\nlan = { subnet = '10.1.0.0/24' }
[machines.a]\ninterfaces = { lan = '10.1.0.1' }\nservices = { idle = 'sleep 91.01' }
[machines.b]\ninterfaces = { lan = '10.1.0.2' }\n";

#[test]
fn machines_stop_start_and_tell_their_changes() {
    let up = Up::with(TWO);
    let write =
        up.call(&["exec", "a", "--", "sh", "-c", "echo x >/root/new; rm /etc/issue; echo y >>/etc/passwd"]);
    assert_eq!(write.code, Some(0), "{write:?}");
    assert_eq!(up.call(&["stop", "a"]).code, Some(0));
    let again = up.call(&["stop", "a"]);
    assert!(
        again.code == Some(3) && again.stderr.contains("a: stop a machine that does not run"),
        "{again:?}"
    );
    let status = up.call(&["status"]);
    assert!(
        status.text().lines().any(|line| line.starts_with("a ") && line.contains("stopped")),
        "{status:?}"
    );
    let changes = up.call(&["changes", "a"]);
    assert_eq!(changes.text(), "- /etc/issue\n~ /etc/passwd\n+ /root/new\n", "{changes:?}");
    let json = up.call(&["changes", "a", "--format", "json"]);
    assert!(json.text().contains("{\"path\":\"/root/new\",\"kind\":\"added\"}"), "{json:?}");
    // Files go in and out of a machine that has ended, and nothing runs there.
    assert_eq!(up.call(&["cp", "a:/root/new", "out"]).code, Some(0));
    assert_eq!(up.folder.read("out"), "x\n");
    up.folder.write("in", "put in\n");
    let copied = up.call(&["cp", "in", "a:/root/in"]);
    assert_eq!(copied.code, Some(0), "{copied:?}");
    let stopped = up.call(&["exec", "a", "true"]);
    assert!(
        stopped.code == Some(125) && stopped.stderr.contains("a machine that has stopped"),
        "{stopped:?}"
    );
    assert_eq!(up.call(&["start", "a"]).code, Some(0));
    assert_eq!(up.call(&["exec", "a", "cat", "/root/new", "/root/in"]).text(), "x\nput in\n");
    assert_eq!(up.call(&["restart", "--hard", "a", "b"]).code, Some(0));
    assert_eq!(up.call(&["ping", "b", "a"]).code, Some(0));
    eventually("the service runs, and once", || processes_with("91.01").len() == 1);
}

#[test]
fn snapshots_are_taken_listed_and_gone_back_to() {
    let up = Up::with(&TWO.replace("91.01", "92.02"));
    let put = |text: &str| up.call(&["exec", "a", "--", "sh", "-c", &format!("echo {text} >/root/f")]).code;
    assert_eq!(put("one"), Some(0));
    assert_eq!(up.call(&["snapshot", "first"]).code, Some(0));
    assert_eq!(put("two"), Some(0));
    assert_eq!(up.call(&["snapshot", "second", "a"]).code, Some(0));
    assert_eq!(up.call(&["rollback", "first"]).code, Some(0));
    assert_eq!(up.call(&["exec", "a", "cat", "/root/f"]).text(), "one\n");
    let list = up.call(&["snapshot"]).text();
    assert_eq!(list, "NAME     ON     MACHINES\nfirst *  -      a b\nsecond   first  a\n");
    let taken = up.call(&["snapshot", "first"]);
    assert!(taken.code == Some(3) && taken.stderr.contains("there is one"), "{taken:?}");
    let above = up.call(&["snapshot", "--delete", "first"]);
    assert!(above.code == Some(3) && above.stderr.contains("second stand on it"), "{above:?}");
    assert_eq!(up.call(&["snapshot", "--delete", "--children", "first"]).code, Some(0));
    let list = up.call(&["snapshot", "--format", "json"]);
    assert_eq!(list.text().trim(), "[]");
}

#[test]
fn a_fork_has_a_name_of_its_own() {
    let up = Up::with(&TWO.replace("91.01", "93.03"));
    let name = format!("{}-fork", up.name());
    let named = |arguments: &[&str]| up.call(&[&["-t", &name], arguments].concat());
    assert_eq!(up.call(&["exec", "a", "touch", "/root/origin"]).code, Some(0));
    let fork = up.call(&["fork", &name]);
    assert_eq!(fork.code, Some(0), "{fork:?}");
    let taken = up.call(&["fork", &name]);
    assert!(taken.code == Some(3) && taken.stderr.contains("is up already"), "{taken:?}");
    assert_eq!(named(&["exec", "a", "rm", "/root/origin"]).code, Some(0));
    assert_eq!(up.call(&["exec", "a", "cat", "/root/origin"]).code, Some(0), "its own files are its own");
    assert_eq!(named(&["ping", "b", "a"]).code, Some(0));
    // The origin ends first, then the fork, and with it the keeper.
    assert_eq!(up.call(&["down"]).code, Some(0));
    assert_eq!(up.call(&["status"]).code, Some(2));
    assert_eq!(named(&["exec", "a", "true"]).code, Some(0));
    assert_eq!(named(&["down"]).code, Some(0));
    eventually("nothing is left", || processes_with("93.03").is_empty());
    assert!(!up.call(&["ls"]).text().contains(&name));
}

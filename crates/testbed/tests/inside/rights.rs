//! Who may do what.

use crate::{drive, ends, up};

#[test]
fn a_list_of_rights_refuses_the_rest() {
    let bed = up(r#"
        [networks]
        lan = { subnet = "10.1.0.0/24" }
        [machines.driver]
        interfaces = { lan = {} }
        control = ["exec:tester-*", "capture"]
        [machines.tester]
        count = 2
        interfaces = { lan = {} }
        [machines.other]
        interfaces = { lan = {} }
    "#);
    assert_eq!(ends(&bed, 0, "testbed exec tester-2 hostname"), "tester-2\n");
    ends(&bed, 0, "testbed ping tester-1 other");
    ends(&bed, 0, "testbed net capture lan --timeout 50ms >/dev/null");
    for (code, refused, right) in [
        (125, "exec other true", "exec:other"),
        (125, "exec -d other true", "exec:other"),
        (125, "exec driver true", "exec:driver"),
        (3, "ps other", "exec:other"),
        (3, "kill other 1", "exec:other"),
        (3, "ping other tester-1", "exec:other"),
        (3, "wait other file /", "exec:other"),
        (3, "cp /etc/hosts tester-1:/root", "cp:tester-1"),
        (3, "cp tester-1:/etc/hosts /root", "cp:tester-1"),
        (3, "net cut tester-1", "cut:tester-1"),
        (3, "connect tester-1 22", "connect:tester-1"),
        (3, "net attach tester-1 lan", "cut:tester-1"),
        (3, "net detach tester-1 lan", "cut:tester-1"),
        (3, "file rm tester-1:/root", "cp:tester-1"),
        (3, "file temp tester-1", "cp:tester-1"),
        (3, "file stat other:/root", "cp:other"),
        (3, "address other", "exec:other"),
        (3, "var get tester-1 k", "var:tester-1"),
        (3, "var set tester-1 k v", "var:tester-1"),
        (3, "var list tester-1", "var:tester-1"),
        (3, "var rm tester-1 k", "var:tester-1"),
    ] {
        let said = ends(&bed, code, &format!("testbed {refused} </dev/null"));
        assert!(
            said.contains("no right to") && said.contains(&format!("`control = [\"{right}\"]`")),
            "{refused}: {said}"
        );
    }
    bed["other"].fail("test -e /root/hosts").unwrap();
    assert_eq!(ends(&bed, 0, "testbed var set driver own x && testbed var get driver own"), "x\n", "its own");
    assert_eq!(ends(&bed, 2, "testbed port add driver 80").lines().last(), Some("hint: call it on the host"));
}

#[test]
fn without_control_there_is_nothing_to_find() {
    let bed = up("[machines.driver]\n[machines.other]\n");
    ends(&bed, 0, "test ! -e /run/testbed/control && test ! -e /run/testbed/bin && ! command -v testbed");
    let (_, path, _) = drive(&bed, "echo $PATH");
    assert!(!path.contains("/run/testbed"), "{path}");
}

#[test]
fn only_root_may_drive() {
    let bed = up("[machines.driver]\ncontrol = true\n[machines.other]\n");
    assert_eq!(ends(&bed, 0, "stat -c '%a %U' /run/testbed/control"), "600 root\n");
    let output = bed["driver"].shell("testbed status").user("nobody").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.exit.shell_code(), 3, "{said}");
    assert!(said.contains("only root may drive the testbed"), "{said}");
}

#[test]
fn no_machine_can_change_the_command_of_the_others() {
    let bed = up("[machines.driver]\ncontrol = true\n[machines.other]\ncontrol = true\n");
    let sum = |machine: &str| bed[machine].succeed("sha256sum </run/testbed/bin/testbed").unwrap();
    let before = sum("other");
    let (_, _, said) = drive(
        &bed,
        "cd /run/testbed/bin; mount -o remount,bind,rw .; mount -o remount,rw .
         echo x >testbed; echo x >>testbed; rm -f testbed; touch new; chmod 777 testbed; chown nobody testbed",
    );
    assert!(said.contains("Read-only file system"), "{said}");
    assert_eq!(sum("driver"), before);
    assert_eq!(sum("other"), before);
    bed["other"].succeed("test ! -e /run/testbed/bin/new && test -x /run/testbed/bin/testbed").unwrap();
}

#[test]
fn the_command_is_first_in_path() {
    let bed = up("[machines.driver]\ncontrol = true\nenv = { PATH = '/usr/bin:/bin' }\n[machines.other]\n");
    assert_eq!(
        ends(&bed, 0, "echo $PATH; command -v testbed"),
        "/run/testbed/bin:/usr/bin:/bin\n/run/testbed/bin/testbed\n"
    );
    let given = bed["driver"].shell("echo $PATH").env("PATH", "/bin").output().unwrap();
    assert_eq!(given.text(), "/bin\n");
    // What waits for a command finds the same programs.
    ends(&bed, 0, "testbed wait driver command 'testbed --version' --timeout 5s");
}

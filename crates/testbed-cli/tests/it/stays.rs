//! Testbeds that stay: `up`, and what keeps, lists and ends them.

use crate::begun::processes_with;
use crate::call::{Called, Folder};
use std::process::Command;
use std::time::{Duration, Instant};

/// A testbed that is up, and down with the value.
pub(crate) struct Up {
    pub(crate) folder: Folder,
}

impl Up {
    pub(crate) fn with(text: &str) -> Up {
        let folder = Folder::with(text);
        let called = folder.call(&["up"]);
        assert_eq!(called.code, Some(0), "{called:?}");
        Up { folder }
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Called {
        self.folder.call(arguments)
    }

    /// The name it is up under.
    pub(crate) fn name(&self) -> String {
        self.folder.path().file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// What `ls` says of it.
    fn listed(&self) -> Option<serde_json::Value> {
        let all: serde_json::Value =
            serde_json::from_slice(&self.call(&["ls", "--format", "json"]).stdout).unwrap();
        all.as_array().unwrap().iter().find(|about| about["name"] == self.name()).cloned()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.folder.call(&["down"]);
    }
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn up_stays_is_listed_and_goes_down_whole() {
    let up = Up::with(
        "[networks]\nlan = { subnet = '10.1.0.0/24' }
[machines.a]\ninterfaces = { lan = '10.1.0.1' }\nservices = { idle = 'sleep 81.01' }\nports = { 18081 = 80 }
[machines.b]\ninterfaces = { lan = {} }",
    );
    let about = up.listed().unwrap();
    assert!(about["file"].as_str().unwrap().ends_with("testbed.toml"), "{about}");
    let status = up.call(&["status"]).text();
    let line = status.lines().nth(1).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words, ["a", "running", "lan=10.1.0.1", "idle", "80", "at", "127.0.0.1:18081"]);
    let status = up.call(&["status", "--format", "json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["machines"][1]["interfaces"][0]["addresses"][0], "10.1.0.2");
    let twice = up.call(&["up"]);
    assert_eq!(twice.code, Some(2));
    assert!(twice.stderr.contains("is up already"), "{twice:?}");
    // By its name from anywhere.
    let elsewhere = Folder::empty();
    assert_eq!(elsewhere.call(&["status"]).code, Some(2));
    let named = elsewhere.call(&["-t", &up.name(), "exec", "b", "hostname"]);
    assert_eq!(named.text(), "b\n");
    let unknown = elsewhere.call(&["-t", "nobody", "status"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains(&up.name()), "{unknown:?}");
    eventually("its service runs", || !processes_with("81.01").is_empty());
    let down = up.call(&["down"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_eq!(processes_with("81.01"), Vec::<u32>::new());
    assert!(up.listed().is_none());
    assert_eq!(up.call(&["down"]).code, Some(2));
}

#[test]
fn a_keeper_that_is_killed_leaves_nothing() {
    let up = Up::with("[machines.m]\nservices = { idle = 'sleep 82.02' }");
    let about = up.listed().unwrap();
    let keeper = about["pid"].as_u64().unwrap().to_string();
    let socket = std::path::PathBuf::from(about["socket"].as_str().unwrap());
    assert!(socket.exists());
    // A session of its own: what ends the terminal does not end it.
    let stat = std::fs::read_to_string(format!("/proc/{keeper}/stat")).unwrap();
    assert_eq!(stat.rsplit_once(") ").unwrap().1.split(' ').nth(3), Some(keeper.as_str()));
    assert!(Command::new("kill").args(["-KILL", &keeper]).status().unwrap().success());
    eventually("its machines have gone", || processes_with("82.02").is_empty());
    // Its end is not one step: for a moment it may still be there, and not answer.
    eventually("nobody takes it for alive", || {
        let gone = up.call(&["status"]);
        gone.code == Some(2) && gone.stderr.contains("is not up")
    });
    assert!(up.listed().is_none());
    assert!(!socket.parent().unwrap().exists());
    assert_eq!(up.call(&["up"]).code, Some(0));
    assert_eq!(up.call(&["exec", "m", "true"]).code, Some(0));
}

#[test]
fn what_does_not_come_up_says_why_and_leaves_nothing() {
    let folder = Folder::with(
        "[machines.m]\nservices = { broken = 'echo no such thing; sleep 0.1; exit 3' }
ready = { log = 'never' }",
    );
    let called = folder.call(&["up"]);
    assert_eq!(called.code, Some(3), "{called:?}");
    assert!(called.stderr.contains("the service `broken` ended with status 3"), "{called:?}");
    assert!(called.stderr.contains("  | no such thing"), "{called:?}");
    assert_eq!(folder.call(&["status"]).code, Some(2));
    let named = folder.call(&["up", "--name", "../x"]);
    assert!(named.code == Some(2) && named.stderr.contains("cannot be up as"), "{named:?}");
}

#[test]
fn a_request_to_end_reaches_the_keeper() {
    let up = Up::with("[machines.m]\nservices = { idle = 'sleep 83.03' }");
    let keeper = up.listed().unwrap()["pid"].as_u64().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &keeper]).status().unwrap().success());
    eventually("it is down", || up.listed().is_none());
    assert_eq!(processes_with("83.03"), Vec::<u32>::new());
}

#[test]
fn ctrl_c_while_it_comes_up_leaves_nothing() {
    let folder = Folder::with(
        "[machines.m]\nservices = { idle = 'sleep 90.10' }\nready = { log = 'never', timeout = '60s' }",
    );
    let child = folder.command(&["up"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the service runs", || !processes_with("90.10").is_empty());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT)
        .unwrap();
    let called = Called::from(child.wait_with_output().unwrap());
    assert_eq!(called.code, Some(130), "{called:?}");
    eventually("nothing is left", || processes_with("90.10").is_empty());
    assert_eq!(folder.call(&["status"]).code, Some(2));
}

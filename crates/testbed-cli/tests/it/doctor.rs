//! `doctor`, on this very host.

use crate::call::{Called, Folder};
use crate::user::User;
use serde_json::Value;

fn findings(called: &Called) -> Value {
    serde_json::from_str(&called.text()).unwrap_or_else(|error| panic!("{error}: {called:?}"))
}

/// How something was found to be.
fn state<'a>(report: &'a Value, name: &str) -> &'a str {
    let found = report["findings"].as_array().unwrap().iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report:#}"))["state"].as_str().unwrap()
}

/// What is not well comes with what it means and what to do, and the exit code says whether there can be machines.
fn is_sound(called: &Called) {
    let report = findings(called);
    for finding in report["findings"].as_array().unwrap() {
        let well = finding["state"] == "good";
        assert_eq!(well, finding["effect"].is_null(), "{finding}");
        assert_eq!(well, finding["remedy"].is_null(), "{finding}");
    }
    assert_eq!(called.code, Some(if report["machines"] == true { 0 } else { 3 }), "{called:?}");
    assert_eq!(report["machines"] == true, state(&report, "a machine") == "good");
}

#[test]
fn root_can_make_machines_here_and_nothing_of_the_examination_stays() {
    let Some(_) = User::new() else { return };
    let folder = Folder::with("[defaults]\ndeadlines = { test = '7s' }\n[machines.m]\n");
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let called = Called::from(
        folder
            .command(&["doctor", "--format", "json"])
            .env("TESTBED_CACHE", "cache")
            .env_remove("https_proxy")
            .env("HTTPS_PROXY", "http://me:secret@proxy.example:3128")
            .output()
            .unwrap(),
    );
    assert!(!called.text().contains("secret"), "a password is shown");
    is_sound(&called);
    let report = findings(&called);
    for name in
        ["user namespaces", "overlay", "seccomp", "macvlan", "idmapped mounts", "ids", "store", "a machine"]
    {
        assert_eq!(state(&report, name), "good", "{name}");
    }
    // What the doctor says of a device is what happens to whoever uses it.
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    assert_eq!(state(&report, "/dev/net/tun") == "good", tun.is_ok());
    let setting = |name: &str| {
        let all = report["settings"].as_array().unwrap();
        let found = all.iter().find(|setting| setting["name"] == name).unwrap();
        (found["value"].as_str().unwrap().to_owned(), found["origin"].as_str().unwrap().to_owned())
    };
    assert_eq!(setting("folder of images"), ("cache".into(), "TESTBED_CACHE".into()));
    let proxy = ("http://***@proxy.example:3128".into(), "HTTPS_PROXY".into());
    assert_eq!(setting("proxy of builds, TLS"), proxy);
    assert_eq!(setting("deadlines.test"), ("7 s".into(), "testbed.toml".into()));
    assert_eq!(setting("deadlines.stop"), ("5 s".into(), "default".into()));
    assert!(!folder.path().join("cache").exists(), "looking at a store must not make it");
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

#[test]
fn people_read_what_is_lacking_and_what_to_do() {
    let Some(_) = User::new() else { return };
    let folder = Folder::empty();
    let whole = folder.call(&["doctor"]).text();
    assert!(whole.contains("  ok     user namespaces"), "{whole}");
    assert!(whole.ends_with("machines can be made on this host\n"), "{whole}");
    let lacks = folder.call(&["doctor", "--quiet"]).text();
    assert!(!lacks.contains("  ok "), "{lacks}");
    assert_eq!(lacks.matches("so: ").count(), lacks.matches("do: ").count(), "{lacks}");
}

#[test]
fn an_ordinary_user_is_told_what_is_missing() {
    let Some(user) = User::new() else { return };
    let called = user.call(&["doctor", "--format", "json"]);
    is_sound(&called);
    let report = findings(&called);
    assert_eq!(state(&report, "ids"), "lacking");
    assert_eq!(state(&report, "user namespaces"), "good");
    assert_eq!(state(&report, "overlay"), "good");
    assert_eq!(state(&report, "a machine"), "good");
    assert_eq!(user.home().read_dir().unwrap().count(), 1, "something was left in the home folder");
}

//! `check`, `plan`, `init`, and where the file is looked for.

use crate::call::Folder;

const WRONG: &str = "[networks]\nlan = { subnet = '10.1.0.0/24' }
[machines.m]\ninterfaces = { lam = {} }\nimagge = 'host'\n[machines.n]\ninterfaces = { lan = '10.2.0.1' }";

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let folder = Folder::with(WRONG);
    for command in ["check", "run", "plan"] {
        let called = folder.call(&[command]);
        assert_eq!(called.code, Some(2), "{called:?}");
        assert_eq!(called.text(), "");
        for part in ["testbed.toml:4", "lam", "imagge", "did you mean", "10.2.0.1", "error: 3 errors"] {
            assert!(called.stderr.contains(part), "{part}\n{}", called.stderr);
        }
    }
    let called = folder.call(&["check", "--format", "json"]);
    assert_eq!(called.code, Some(2), "{called:?}");
    let report: serde_json::Value = serde_json::from_str(&called.text()).unwrap();
    assert_eq!(report["problems"].as_array().unwrap().len(), 3);
}

#[test]
fn a_right_file_is_said_to_be() {
    let called = Folder::with("[machines.m]").call(&["check"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert_eq!(called.text(), "ok testbed.toml: 1 machine, 0 networks, 0 tests\n");
}

#[test]
fn what_is_begun_runs() {
    let folder = Folder::empty();
    let called = folder.call(&["init"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert_eq!(folder.call(&["check"]).code, Some(0));
    let called = folder.call(&["run"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    let before = folder.read("testbed.toml");
    assert_eq!(folder.call(&["init"]).code, Some(2));
    assert_eq!(folder.read("testbed.toml"), before);
}

#[test]
fn the_file_is_looked_for_upwards_and_may_be_named() {
    let folder = Folder::with("name = 'here'\n[machines.m]\n[[tests]]\nname = 't'\non = 'm'\nrun = 'true'");
    std::fs::create_dir_all(folder.path().join("deep/er")).unwrap();
    let plan = |arguments: &[&str]| {
        let called = folder.call(&[&["plan", "--format", "json"], arguments].concat());
        assert_eq!(called.code, Some(0), "{called:?}");
        serde_json::from_str::<serde_json::Value>(&called.text()).unwrap()
    };
    assert_eq!(plan(&["-C", "deep/er"])["testbed"], "here");
    assert_eq!(plan(&[])["copies"][0]["tests"][0]["id"], "t");
    let path = folder.path().to_str().unwrap();
    let elsewhere = Folder::empty();
    for arguments in [&["run", path][..], &["-C", path, "run"], &["run", path, "=t"]] {
        let called = elsewhere.call(arguments);
        assert_eq!(called.code, Some(0), "{called:?}");
    }
    assert_eq!(elsewhere.call(&["run", path, "other"]).code, Some(4));
}

#[test]
fn wrong_calls_end_with_2() {
    let folder = Folder::empty();
    assert_eq!(folder.call(&["run", "--no-such-flag"]).code, Some(2));
    assert_eq!(folder.call(&["-C", "nowhere", "run"]).code, Some(2));
    assert_eq!(folder.call(&["--help"]).code, Some(0));
}

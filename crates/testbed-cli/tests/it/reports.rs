//! Reports of one run agree with each other.

use crate::call::Folder;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use testbed_subunit::v2::{Item, Items};
use testbed_subunit::{Records, Status, Summary};

fn mixed() -> Folder {
    Folder::with(
        "[networks]\nlan = { subnet = '10.1.0.0/24' }
[machines.m]\ninterfaces = { lan = {} }\nservices = { daemon = 'echo daemon speaks; sleep 1000' }
[machines.n]\ninterfaces = { lan = {} }
[[tests]]\nname = 'a'\non = 'm'\nrun = 'head -c 300000 /dev/zero | tr \"\\\\0\" x'
[[tests]]\nname = 'b'\non = 'n'\nrun = 'printf \"\\\\263\\\\377\"; echo x >/root/new; bash -c \"echo x >/dev/udp/10.1.0.200/9\"; sleep 0.1; exit 1'\ntags = ['deep']
[[tests]]\nname = 'c'\non = 'm'\nrun = 'exit 1'\nexpect = 'failure'
[[tests]]\nname = 'd'\non = 'host'\nrun = 'true'\nneeds = ['module:no_such_module']
[[tests]]\nname = 'e'\non = 'host'\nrun = 'exit 1'",
    )
}

#[test]
fn subunit_and_junit_agree() {
    let folder = mixed();
    let called = folder.call(&["run", "--subunit", "--junit", "report.xml"]);
    assert_eq!(called.code, Some(1), "{called:?}");
    let mut records = Records::default();
    let mut summary = Summary::default();
    let mut ended = Vec::new();
    for item in Items::new(&called.stdout) {
        let Item::Packet(packet) = item else { panic!("only packets are on standard output") };
        if let Some(record) = records.event(packet.event) {
            summary.add(&record);
            ended.push(record);
        }
    }
    let rest = records.finish();
    assert_eq!(rest.unfinished, [], "every machine that began has ended");
    let tests = summary.tests();
    assert_eq!((tests.passed, tests.failed, tests.xfail, tests.skipped, tests.listed), (1, 2, 1, 1, 5));
    // Two machines on each of four copies.
    assert_eq!((summary.activities().passed, summary.activities().run()), (8, 8));

    let find = |id: &str| ended.iter().rfind(|record| &*record.id == id).unwrap();
    let whole = find("a").attachment("stdout").unwrap();
    assert_eq!(whole.kept.total(), 300_000);
    let failed = find("b");
    assert_eq!(failed.status, Some(Status::Fail));
    assert_eq!(failed.attachment("stdout").unwrap().kept.to_vec(), b"\xb3\xff");
    assert!(failed.tags.contains("deep") && failed.tags.iter().any(|tag| tag.starts_with("copy-")));
    let log = failed.attachment("m/service/daemon").unwrap().kept.to_vec();
    assert_eq!(String::from_utf8_lossy(&log), "daemon speaks\n");
    let text =
        |name: &str| String::from_utf8_lossy(&failed.attachment(name).unwrap().kept.to_vec()).into_owned();
    assert!(text("n/changes").contains("+ /root/new\n"), "{}", text("n/changes"));
    assert!(text("capture/lan").contains("10.1.0.200"), "{}", text("capture/lan"));
    assert_eq!(failed.reason().as_deref(), Some("exit status 1"));
    assert!(failed.start.is_some() && !failed.is_skewed());

    // The same stream always gives the same report.
    std::fs::write(folder.path().join("kept.subunit"), &called.stdout).unwrap();
    let shown = folder.call(&["stream", "show", "kept.subunit", "--junit", "again.xml"]);
    assert_eq!((shown.code, shown.text()), (called.code, called.stderr.clone()));

    let xml = folder.read("report.xml");
    let document = roxmltree::Document::parse(&xml).unwrap();
    let suite = document.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    let figure = |name| suite.attribute(name).unwrap();
    assert_eq!(
        (figure("tests"), figure("failures"), figure("errors"), figure("skipped")),
        ("5", "2", "0", "2")
    );
}

#[test]
fn json_says_the_same() {
    let called = mixed().call(&["run", "--format", "json"]);
    assert_eq!(called.code, Some(1), "{called:?}");
    let text = called.text();
    let events: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |status: &str| {
        events.iter().filter(|event| event["runnable"] == true && event["status"] == status).count()
    };
    let all = ["exists", "inprogress", "success", "fail", "xfail", "skip"].map(count);
    assert_eq!(all, [5, 4, 1, 2, 1, 1]);
    // The report for people goes where the data does not.
    assert!(called.stderr.contains("1 passed, 1 failed as expected, 2 failed, 1 skipped in "), "{called:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = Folder::with("[machines.m]\n[[tests]]\nname = 't'\non = 'm'\nrun = 'sleep 0.2'");
    for arguments in [&["run", "--format", "json"][..], &["run"], &["run", "--subunit"]] {
        let mut command = folder.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?} {output:?}");
    }
}

#[test]
fn events_are_told_when_they_happen() {
    let folder = Folder::with("[machines.m]\n[[tests]]\nname = 't'\non = 'm'\nrun = 'echo now; sleep 1'");
    let mut child = folder.command(&["run", "--format", "json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("now")));
    assert!(child.try_wait().unwrap().is_none(), "the test still runs");
    assert!(lines.any(|line| line.contains("\"success\"")));
    assert!(child.wait().unwrap().success());
}

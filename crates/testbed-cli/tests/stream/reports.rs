//! What is made of streams: `ls`, `stats`, `show`, `notify`, `to-…`, `from-…`.

use crate::call::{Folder, call, events, ids, mixed, stream};
use serde_json::Value;
use testbed_subunit::{Draft, Status};

fn passed() -> Vec<u8> {
    stream(&[
        Draft::test("t", Status::Success),
        Draft::test("s", Status::Skip),
        Draft::test("x", Status::XFail),
    ])
}

#[test]
fn tests_are_listed() {
    assert_eq!(ids(&mixed()), ["pkg.pass", "pkg.fail", "pkg.skip", "pkg.xfail", "pkg.uxsuccess", "pkg.hung"]);
    let called = call(&["ls", "--times", "--exists"], &mixed());
    assert!(called.text().starts_with("pkg.pass 2.000\npkg.fail 2.000\n"), "{called:?}");
    assert!(called.text().contains("\npkg.listed\npkg.hung\n"), "{called:?}");
    // What was printed is talk.
    assert_eq!(called.stderr, "printed\n".repeat(5));
    assert_eq!(call(&["ls", "--no-passthrough"], &mixed()).stderr, "");
    let json = call(&["ls", "--format", "json"], &mixed());
    let lines: Vec<Value> = json.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[1]["status"], &lines[1]["route"]), (&"fail".into(), &"0/1".into()));
}

#[test]
fn reports_end_as_the_stream_says() {
    let one = stream(&[Draft::test("t", Status::Success)]);
    let truncated = &one[..one.len() - 2];
    let stray = stream(&[Draft::new().status(Status::Fail)]);
    for arguments in
        [&["ls"][..], &["stats"], &["show"], &["to-tap"], &["to-junit"], &["notify", "--", "true"]]
    {
        let code = |input: &[u8]| call(arguments, input).code;
        assert_eq!(code(&passed()), Some(0), "{arguments:?}");
        assert_eq!(code(b""), Some(0), "{arguments:?}");
        assert_eq!(code(&mixed()), Some(1), "{arguments:?}");
        assert_eq!(code(truncated), Some(1), "{arguments:?}");
        assert_eq!(code(&stray), Some(1), "{arguments:?}");
        for status in Status::ALL {
            let failed = matches!(status, Status::Fail | Status::UxSuccess | Status::InProgress);
            let input = stream(&[Draft::test("t", status)]);
            assert_eq!(code(&input), Some(failed.into()), "{arguments:?} {status:?}");
        }
    }
}

#[test]
fn tests_are_counted() {
    let text = call(&["stats"], &mixed());
    let number = |words: &str| {
        let line = text.text().lines().find(|line| line.starts_with(words)).unwrap_or_default();
        line.split_whitespace().last().map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(
        ["Total tests:", "Passed tests:", "Failed tests:", "Skipped tests:", "Unfinished", "Seen tags:"]
            .map(number),
        ["6", "1", "1", "1", "1", "w1"]
    );
    assert!(text.text().contains("Seen tags: slow, w1\n"), "{text:?}");
    let json: Value = serde_json::from_str(call(&["stats", "--format", "json"], &mixed()).text()).unwrap();
    assert_eq!((&json["total"], &json["success"], &json["seconds"]), (&6.into(), &false.into(), &5.0.into()));
}

#[test]
fn streams_are_forwarded_past_a_report() {
    let folder = Folder::empty();
    let called = call(&["stats", "-f", "-o", &folder.named("stats")], &mixed());
    assert_eq!(called.code, Some(1));
    assert_eq!(called.stdout, call(&["cat"], &mixed()).stdout);
    assert!(std::fs::read_to_string(folder.named("stats")).unwrap().starts_with("Total tests:"));
    let called = call(&["ls", "--forward"], &passed());
    assert_eq!((called.events().len(), called.stderr.as_str()), (3, "t\ns\nx\n"));
}

#[test]
fn a_stream_is_shown() {
    let called = call(&["show"], &mixed());
    let text = called.text();
    for part in ["ok pkg.pass #0/1 (2.00 s)\n", "FAIL pkg.fail", "    output of fail\n", "cut off pkg.hung"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let last = "1 passed, 1 failed as expected, 1 failed, 1 passed against expectation, 1 cut off, 1 skipped in 5.00 s";
    assert_eq!(text.lines().last(), Some(last));
    // What failed outside of tests is no machine.
    let called = call(&["show"], &stream(&[Draft::activity("setup", Status::Fail)]));
    assert!(called.code == Some(1) && called.text().contains("1 failure outside of tests"), "{called:?}");
    let called = call(&["show"], &stream(&[Draft::activity("testbed/1/gw", Status::Fail)]));
    assert!(called.code == Some(3) && called.text().contains("1 machine failed"), "{called:?}");
}

#[test]
fn a_command_is_told_what_came_of_it() {
    let folder = Folder::empty();
    let script = "cat > \"$1\"; echo \"$2\" \"$TESTBED_STREAM_RESULT\" \"$TESTBED_STREAM_FAILED\" >> \"$1\"";
    let told = folder.named("told");
    let called = call(&["notify", "--forward", "--", "sh", "-c", script, "sh", &told, "{}"], &mixed());
    assert_eq!((called.code, called.events().len()), (Some(1), 18), "{called:?}");
    let told = std::fs::read_to_string(told).unwrap();
    let (json, line) = told.rsplit_once('}').unwrap();
    let json: Value = serde_json::from_str(&format!("{json}}}")).unwrap();
    assert_eq!(json["failed"], 1);
    assert!(line.starts_with("6 tests: 1 passed, 1 failed") && line.ends_with("failure 1\n"), "{line}");
    assert_eq!(call(&["notify", "--", "false"], b"").code, Some(2));
    assert_eq!(call(&["notify"], b"").code, Some(2));
}

#[test]
fn streams_become_other_formats() {
    let json = call(&["to-json"], &mixed());
    let lines: Vec<Value> = json.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.code, lines.len()), (Some(0), 18));
    assert_eq!(lines[2]["file"]["text"], "output of pass\n");
    let tap = call(&["to-tap"], &mixed());
    assert!(tap.text().starts_with("TAP version 13\nok 1 - pkg.pass\nnot ok 2 - pkg.fail\n"), "{tap:?}");
    let csv = call(&["to-csv"], &mixed());
    let row = "pkg.fail,fail,2026-11-20T19:00:00.000000000Z,2026-11-20T19:00:02.000000000Z,2.000,0/1,w1,";
    assert!(csv.text().lines().any(|line| line == row), "{csv:?}");
    let github = call(&["to-github"], &mixed());
    let errors: Vec<&str> = github.text().lines().filter(|line| line.starts_with("::error ")).collect();
    assert_eq!((github.code, errors.len()), (Some(1), 3), "{github:?}");
    let folder = Folder::empty();
    let input = folder.write("nightly.subunit", mixed());
    let junit = call(&["to-junit", &input], b"");
    let xml = roxmltree::Document::parse(junit.text()).unwrap();
    let suite = xml.descendants().find(|node| node.has_tag_name("testsuite")).unwrap();
    assert_eq!((suite.attribute("name"), suite.attribute("failures")), (Some("nightly"), Some("2")));
}

#[test]
fn other_formats_become_streams() {
    let folder = Folder::empty();
    let tap = folder.write("a.tap", b"1..2\nok 1 - a\nnot ok 2 - b\n");
    let called = call(&["from-tap", &tap, "-o", &folder.named("out")], b"");
    assert_eq!(called.code, Some(1), "{called:?}");
    let seen = events(&std::fs::read(folder.named("out")).unwrap());
    let statuses: Vec<_> = seen.iter().filter_map(|event| event.as_ref().status()).collect();
    assert!(statuses.contains(&Status::Success) && statuses.contains(&Status::Fail), "{seen:?}");
    let called = call(&["from-tap", "--timestamps"], b"1..1\nok 1 - a\n");
    let seen = called.events();
    assert_eq!(called.code, Some(0));
    assert!(seen.iter().all(|event| event.as_ref().timestamp().is_some()), "{seen:?}");
    let go = br#"{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.5}
{"Action":"pass","Package":"p","Elapsed":0.6}
"#;
    let called = call(&["from-go"], go);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(call(&["ls"], &called.stdout).text().contains("p.TestA\n"));
}

#[test]
fn version_1_is_written_and_read() {
    let one = call(&["to-v1"], &mixed());
    assert_eq!(one.code, Some(0), "{one:?}");
    assert!(one.text().contains("printed\n") && one.text().contains("successful: pkg.pass"), "{one:?}");
    let two = call(&["from-v1"], &one.stdout);
    assert_eq!(two.code, Some(1), "{two:?}");
    let before = ids(&mixed()).into_iter();
    // Version 1 knows only tests, so that a machine becomes one; and what never ended comes last.
    let expected: Vec<String> = before.filter(|id| id != "pkg.hung").collect();
    assert_eq!(ids(&two.stdout), [&expected[..], &["testbed/1/gw".into(), "pkg.hung".into()]].concat());
}

#[test]
fn each_format_is_read_by_its_name() {
    for (name, input, id) in [
        ("from-junit", "<testsuite><testcase classname='c' name='t'/></testsuite>", "c"),
        (
            "from-libtest",
            "running 1 test\ntest a::t ... ok\n\ntest result: ok. 1 passed; 0 failed; 0 ignored\n",
            "a::t",
        ),
        (
            "from-nextest",
            "{\"type\":\"suite\",\"event\":\"started\",\"test_count\":1}\n\
             {\"type\":\"test\",\"event\":\"started\",\"name\":\"a::t\"}\n\
             {\"type\":\"test\",\"event\":\"ok\",\"name\":\"a::t\"}\n\
             {\"type\":\"suite\",\"event\":\"ok\",\"passed\":1,\"failed\":0,\"ignored\":0}\n",
            "t",
        ),
        ("1to2", "test: t\nsuccess: t\n", "t"),
    ] {
        let called = call(&[name], input.as_bytes());
        assert_eq!(called.code, Some(0), "{name}: {called:?}");
        let listed = call(&["ls", "--format", "json"], &called.stdout);
        assert!(listed.text().contains(id) && listed.text().contains("success"), "{name}: {listed:?}");
    }
}

#[test]
fn attachments_become_files_and_none_leads_out() {
    let folder = Folder::empty();
    let test = |id| Draft::test(id, Status::Fail).file("stdout", b"boom\n").eof(true);
    let core = vec![b'x'; 5_000_000];
    let mut input = stream(&[test("../../evil"), test("/etc/passwd"), test("good")]);
    for event in Draft::test("large", Status::Success).file("core", &core).split(1 << 20).unwrap() {
        testbed_subunit::v2::encode(&event, &mut input);
    }
    // A name that leads elsewhere is not followed, whoever put it there.
    let made = folder.named("made");
    std::fs::create_dir_all(format!("{made}/good")).unwrap();
    let outside = folder.write("outside", b"as it was");
    std::os::unix::fs::symlink(&outside, format!("{made}/good/stdout")).unwrap();
    let refused = call(&["to-disk", "-d", &made], &input);
    assert!(refused.code == Some(3) && refused.stderr.contains("good/stdout"), "{refused:?}");
    std::fs::remove_file(format!("{made}/good/stdout")).unwrap();
    for _ in 0..2 {
        assert_eq!(call(&["2disk", "-d", &made], &input).code, Some(1));
    }
    assert_eq!(std::fs::read(&outside).unwrap(), b"as it was");
    assert_eq!(std::fs::read(format!("{made}/large/core")).unwrap().len(), core.len());
    let json: Value =
        serde_json::from_slice(&std::fs::read(format!("{made}/good/test.json")).unwrap()).unwrap();
    assert_eq!((&json["id"], &json["status"]), (&"good".into(), &"fail".into()));
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    assert_eq!((count(&made), std::fs::read_dir(folder.path()).unwrap().count()), (4, 2));
}

//! What `subunit-filter` keeps, and what `testbed stream filter` does.

use crate::folds::{at, folded, stream, told};
use crate::generate::Numbers;
use crate::reference::{Reference, hex};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Command;
use testbed_subunit::v2::{Item, Items};
use testbed_subunit::{Draft, Status};

const CALLS: usize = 400;

/// Ids that are known to fail, in a file.
const KNOWN: &str = "known";

/// Arguments and a stream.
type Call = (Vec<&'static str>, Vec<u8>);

/// What each of the two writes when it is called so.
fn filtered(reference: &Reference, calls: &[Call]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let cases: Vec<Vec<u8>> = calls
        .iter()
        .map(|(arguments, stream)| [json!(arguments).to_string().as_bytes(), b"\n", stream].concat())
        .collect();
    let theirs = reference.makes_of_each("filter", &cases);
    let written = calls.iter().zip(&theirs).map(|((arguments, stream), theirs)| {
        let file = reference.folder().write("case", stream);
        let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
        let output = command.args(["stream", "filter"]).args(arguments).arg(file);
        let output = output.current_dir(reference.folder().path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        (output.stdout, hex(theirs.as_str().unwrap()))
    });
    written.collect()
}

/// The tests of a stream, in the order in which they come, and what it says outside of tests.
fn parts(stream: &[u8]) -> (Vec<Value>, Vec<u8>) {
    let tests = folded(stream).0.iter().map(told).collect();
    let mut outside = Vec::new();
    for item in Items::new(stream) {
        let Item::Packet(packet) = item else { panic!("{item:?}") };
        let file = packet.event.file().filter(|_| packet.event.id().is_none());
        outside.extend_from_slice(file.map_or(b"", |file| file.bytes));
    }
    (tests, outside)
}

/// Arguments of every kind, but for those that mean something else to either: they stand below.
fn arguments(numbers: &mut Numbers) -> Vec<&'static str> {
    let mut arguments: Vec<&'static str> = Vec::new();
    let genuine = numbers.below(6) == 0;
    let statuses: &[&str] = match genuine {
        true => &["-F", "--only-genuine-failures"],
        false => {
            &["-s", "--success", "--no-success", "--xfail", "--no-xfail", "--passthrough", "--no-passthrough"]
        }
    };
    for _ in 0..1 + numbers.below(3) {
        arguments.push(*numbers.one(statuses));
        if numbers.coin() {
            arguments.push(*numbers.one(&["-f", "--no-failure", "--failure", "--no-skip"]));
        }
    }
    for (option, values) in [
        ("--with-tag", &["w0", "slow"][..]),
        ("--without-tag", &["w1", "slow"]),
        ("-m", &["group_[01]", "needle", "^(pkg|new)"]),
        ("--with", &["test_[0-4]"]),
        ("--without", &["test_2", "needle"]),
        ("--fixup-expected-failures", &[KNOWN]),
    ] {
        while numbers.below(5) == 0 {
            arguments.extend([option, *numbers.one(values)]);
        }
    }
    for (from, to) in [(r"^pkg\.", "new."), (r"group_(\d)", r"g_\1")] {
        if numbers.below(5) == 0 {
            arguments.extend(["--rename", from, to]);
        }
    }
    arguments
}

/// Tests that run at once, and what is printed in between.
fn run(numbers: &mut Numbers) -> Vec<u8> {
    let (mut now, mut later) = (Vec::new(), Vec::new());
    for test in 0..8 {
        let id = format!("pkg.group_{}.test_{test}", numbers.below(3));
        let tags: &[&str] = [&[][..], &["w0"], &["slow", "w1"], &["slow", "w0"]][numbers.below(4)];
        let route = *numbers.one(&[None, Some("0"), Some("1/0")]);
        let draft = Draft::new().id(&*id).route(route).runnable(numbers.coin()).tags(tags);
        let draft = draft.at(at(test));
        let all =
            [Status::Success, Status::Fail, Status::Skip, Status::XFail, Status::UxSuccess, Status::Exists];
        let status = *numbers.one(&all);
        if status == Status::Exists {
            now.extend(stream(&[draft.status(status)]));
            continue;
        }
        if numbers.coin() {
            now.extend(stream(&[draft.status(Status::InProgress)]));
        }
        let text = *numbers.one(&["hay", "a needle in hay"]);
        let end = stream(&[
            draft.file("log", text.as_bytes()).mime("text/plain").eof(true),
            draft.status(status).at(at(test + 2)),
        ]);
        if numbers.coin() {
            now.extend(end)
        } else {
            later.extend(end)
        }
        match numbers.below(6) {
            0 => now.extend(b"printed\n"),
            1 => now.extend(stream(&[Draft::output("stdout", b"said\n")])),
            _ => {}
        }
    }
    now.extend(later);
    now
}

/// The status of each test of a stream, by its id.
fn statuses(stream: &[u8]) -> HashMap<String, Status> {
    let packets = Items::new(stream).filter_map(|item| match item {
        Item::Packet(packet) => packet.event.id().map(str::to_owned).zip(packet.event.status()),
        _ => None,
    });
    packets.collect()
}

#[test]
fn both_keep_the_same_tests() {
    let mut numbers = Numbers::new(0xf117e4);
    let calls: Vec<Call> = (0..CALLS).map(|_| (arguments(&mut numbers), run(&mut numbers))).collect();
    let reference = Reference::up();
    // They look a test up by the name that it is given, and we by that which it has.
    let ids =
        |group: &str| (0..8).step_by(3).map(|test| format!("{group}.test_{test}\n")).collect::<String>();
    let groups = ["pkg.group_", "new.group_", "pkg.g_", "new.g_"];
    let known: String =
        groups.iter().flat_map(|start| (0..3).map(move |group| ids(&format!("{start}{group}")))).collect();
    reference.folder().write(KNOWN, known.as_bytes());
    let written = filtered(&reference, &calls);
    let mut kept = 0;
    for ((arguments, stream), (ours, theirs)) in calls.iter().zip(&written) {
        let ((mut ours, outside), (mut theirs, their_outside)) = (parts(ours), parts(theirs));
        // They leave out what is only listed.
        ours.retain(|test| test[1] != "exists");
        // They give all events of a test the time of the last.
        ours.iter_mut().for_each(|test| test[3][0] = test[3][1].clone());
        // They rename what passed or failed, and nothing else.
        let were = statuses(stream);
        for test in ours.iter_mut().chain(&mut theirs) {
            let name = test[0].as_str().unwrap().replace("new.", "pkg.").replace(".g_", ".group_");
            let renamed = matches!(were[&name], Status::Success | Status::Fail);
            if !renamed {
                test[0] = name.into();
            }
        }
        // To them, no rule is about an unexpected success.
        if arguments.iter().any(|word| word.starts_with("--with") || *word == "-m") {
            theirs.retain(|test| test[1] != "uxsuccess" || ours.contains(test));
        }
        assert_eq!(ours, theirs, "{arguments:?}");
        kept += ours.len();
        let quiet = arguments.iter().rfind(|word| word.contains("passthrough"));
        if quiet == Some(&"--no-passthrough") {
            // They leave out all that is of no test, and we what is in no packet.
            assert!(their_outside.is_empty() && !String::from_utf8_lossy(&outside).contains("printed"));
        } else {
            assert_eq!(
                String::from_utf8_lossy(&outside),
                String::from_utf8_lossy(&their_outside),
                "{arguments:?}"
            );
        }
    }
    assert!((CALLS..CALLS * 8).contains(&kept), "{kept}");
}

/// What is kept otherwise, and why: see the table in the library's documentation.
#[test]
fn expected_differences() {
    let known = ["--fixup-expected-failures", KNOWN];
    let rename = ["--rename", "^a", "b"];
    let test = |id, status| stream(&[Draft::test(id, status).at(at(0))]);
    let tagged = |status| stream(&[Draft::test("a", status).at(at(0)).tags(&["x"])]);
    let routed = stream(&[Draft::activity("a", Status::Fail).at(at(0)).route("0")]);
    let split = stream(&[
        Draft::test("a", Status::InProgress).at(at(0)).tags(&["x"]),
        Draft::test("a", Status::Fail).at(at(0)).tags(&["y"]),
    ]);
    let of_run = stream(&[Draft::output("stdout", b"said\n")]);
    let cases: Vec<(Call, &[&str], &[&str])> = vec![
        // Arguments, stream, what they keep, what we keep: route, runnable, status and id.
        ((vec![], routed), &["- true fail a"], &["0 false fail a"]),
        ((vec![], test("a", Status::Exists)), &[], &["- true exists a"]),
        ((vec![], test("a", Status::InProgress)), &["- true fail a"], &["- true inprogress a"]),
        ((vec!["-f"], test("a", Status::InProgress)), &[], &["- true inprogress a"]),
        ((vec!["-e"], test("a", Status::Fail)), &["- true fail a"], &[]),
        ((vec!["-f", "--error"], test("a", Status::Fail)), &[], &["- true fail a"]),
        ((vec!["-F", "-s"], test("a", Status::Success)), &["- true success a"], &[]),
        ((vec!["--without-tag", "x"], tagged(Status::UxSuccess)), &["- true uxsuccess a"], &[]),
        ((vec!["--with", "no"], tagged(Status::UxSuccess)), &["- true uxsuccess a"], &[]),
        ((vec!["--with-tag", "x"], split), &[], &["- true fail a"]),
        ((rename.to_vec(), test("a", Status::Skip)), &["- true skip a"], &["- true skip b"]),
        (([&rename[..], &["-m", "^b"]].concat(), test("a", Status::Fail)), &["- true fail b"], &[]),
        (
            ([rename, [known[0], known[1], "--xfail"]].concat(), test("a", Status::Fail)),
            &["- true fail b"],
            &["- true xfail b"],
        ),
        ((vec!["--no-passthrough"], of_run), &[], &["- false - -"]),
    ];
    let reference = Reference::up();
    reference.folder().write(KNOWN, b"a\n");
    let calls: Vec<Call> = cases.iter().map(|(call, ..)| call.clone()).collect();
    for (((arguments, _), they, we), (ours, theirs)) in cases.iter().zip(filtered(&reference, &calls)) {
        assert_eq!(last(&theirs), *they, "they: {arguments:?}");
        assert_eq!(last(&ours), *we, "we: {arguments:?}");
    }
    let timed =
        stream(&[Draft::test("a", Status::InProgress).at(at(0)), Draft::test("a", Status::Fail).at(at(2))]);
    let written = filtered(&reference, &[(vec![], timed)]);
    let seconds = |stream: &[u8]| folded(stream).0[0].duration().unwrap().as_secs();
    assert_eq!((seconds(&written[0].1), seconds(&written[0].0)), (0, 2), "how long a test took");
}

/// The last event of each test.
fn last(stream: &[u8]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for item in Items::new(stream) {
        let Item::Packet(packet) = item else { panic!("{item:?}") };
        let event = packet.event;
        let (route, id) = (event.route().unwrap_or("-"), event.id().unwrap_or("-"));
        let status = event.status().map_or("-", Status::as_str);
        all.retain(|one| !one.ends_with(&format!(" {id}")));
        all.push(format!("{route} {} {status} {id}", event.runnable()));
    }
    all
}

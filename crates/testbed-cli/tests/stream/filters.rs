//! What passes streams on: `cat`, `filter`, `tags`, `combine`, `split`.

use crate::call::{Folder, at, call, command, events, ids, mixed, stream, wait};
use std::process::Stdio;
use testbed_subunit::{Draft, Event, Status};

fn failing() -> &'static [&'static str] {
    &["pkg.fail", "pkg.uxsuccess", "pkg.hung"]
}

fn filtered(arguments: &[&str]) -> Vec<String> {
    let called = call(&[&["filter"], arguments].concat(), &mixed());
    assert_eq!((called.code, called.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    ids(&called.stdout)
}

#[test]
fn cat_joins_files_and_makes_events_of_all_that_is_in_them() {
    let folder = Folder::empty();
    let one = stream(&[Draft::test("one", Status::Exists)]);
    let mut bad = one.clone();
    *bad.last_mut().unwrap() ^= 1;
    let first = folder.write("1", [&one[..], b"text \xc3\xb3 between\n"].concat());
    let second = folder.write("2", [&one[..], &bad, &one].concat());
    let called = call(&["cat", &first, "-", &second], b"from the pipe\n");
    assert_eq!((called.code, called.stderr.as_str()), (Some(0), ""));
    let seen: Vec<_> = called.events();
    let shown: Vec<String> = seen
        .iter()
        .map(|event| {
            let event = event.as_ref();
            let file = event.file().map(|file| format!("{}", String::from_utf8_lossy(file.bytes)));
            event.id().map(str::to_owned).or(file).unwrap_or_default()
        })
        .collect();
    let parser = testbed_subunit::v2::PARSER_ID;
    assert_eq!(shown, ["one", "text ó between\n", "from the pipe\n", "one", parser, parser, "one"]);
    let (inside, there) = (folder.named("."), ["cat", "--no-passthrough", "1", "-o", "out", "-C"]);
    let quiet = call(&[&there[..], &[&inside]].concat(), b"");
    assert_eq!((quiet.code, quiet.stdout.len()), (Some(0), 0));
    assert_eq!(events(&std::fs::read(folder.named("out")).unwrap()).len(), 1);
}

#[test]
fn filter_keeps_what_was_asked_for() {
    assert_eq!(filtered(&[]), ["pkg.fail", "pkg.skip", "pkg.uxsuccess", "pkg.hung"]);
    assert_eq!(filtered(&["-s"]), ["pkg.pass", "pkg.fail", "pkg.skip", "pkg.uxsuccess", "pkg.hung"]);
    assert_eq!(filtered(&["--success", "--no-success"]), filtered(&[]));
    assert_eq!(filtered(&["-F"]), failing());
    assert_eq!(filtered(&["--no-skip"]), failing());
    assert_eq!(filtered(&["-f", "--no-skip"]), ["pkg.uxsuccess", "pkg.hung"]);
    assert_eq!(filtered(&["--no-error", "--error"]), filtered(&[]));
    assert_eq!(filtered(&["--xfail", "--no-skip"]), ["pkg.fail", "pkg.xfail", "pkg.uxsuccess", "pkg.hung"]);
    assert_eq!(filtered(&["--no-unfinished", "--no-uxsuccess"]), ["pkg.fail", "pkg.skip"]);
    assert_eq!(filtered(&["--all", "--with-tag", "slow"]), ["pkg.hung"]);
    assert_eq!(filtered(&["--without-tag", "w1"]), ["pkg.hung"]);
    assert_eq!(filtered(&["--all", "-m", "^output of (pass|fail)$"]), ["pkg.pass", "pkg.fail"]);
    assert_eq!(filtered(&["--all", "--with", "ass$", "-m", "hung"]), ["pkg.pass", "pkg.hung"]);
    assert_eq!(filtered(&["--without", "^uxsuccess$", "--without", "skip"]), ["pkg.fail", "pkg.hung"]);
    let renamed = filtered(&["-F", "--rename", r"pkg\.(u?)", r"\1-$", "--rename", "-.", "="]);
    assert_eq!(renamed, ["=fail", "u=xsuccess", "=hung"]);
}

#[test]
fn filter_changes_nothing_of_what_it_keeps() {
    let before = call(&["cat"], &mixed()).events();
    let after = call(&["filter", "--all"], &mixed()).events();
    let of = |events: &[Event], id: &str| -> Vec<Event> {
        events.iter().filter(|event| event.as_ref().id() == Some(id)).cloned().collect()
    };
    assert_eq!(before.len(), after.len());
    for id in ["pkg.pass", "pkg.fail", "pkg.listed", "pkg.hung", "testbed/1/gw"] {
        assert_eq!(of(&before, id), of(&after, id), "{id}");
    }
}

#[test]
fn filter_knows_what_fails() {
    let folder = Folder::empty();
    let known = folder.write("known", b"pkg.fail\n\n  pkg.pass\n");
    let called = call(&["filter", "--all", "--fixup-expected-failures", &known], &mixed());
    let statuses = |id: &str| {
        let events = called.events();
        let last = events.iter().rfind(|event| event.as_ref().id() == Some(id)).unwrap();
        last.as_ref().status()
    };
    assert_eq!(statuses("pkg.fail"), Some(Status::XFail));
    assert_eq!(statuses("pkg.pass"), Some(Status::UxSuccess));
    assert_eq!(statuses("pkg.skip"), Some(Status::Skip));
    for wrong in [&["-m", "("][..], &["--rename", "(", "x"], &["--fixup-expected-failures", "/no"]] {
        let called = call(&[&["filter"], wrong].concat(), b"");
        assert!(called.code == Some(2) && !called.stderr.is_empty(), "{called:?}");
    }
}

#[test]
fn tags_are_added_and_taken_away() {
    let input = stream(&[Draft::test("t", Status::Fail).tags(&["old", "ok"]).route("0/1")]);
    let called = call(&["tags", "new", "-old", "-output"], &input);
    assert_eq!(called.code, Some(0), "{called:?}");
    let event = &called.events()[0];
    assert_eq!(event.as_ref().tags().iter().collect::<Vec<_>>(), ["new", "ok"]);
    assert_eq!(event.as_ref().route(), Some("0/1"));
    // Also where it could be an option.
    let called = call(&["tags", "-old", "-heavy"], &input);
    assert_eq!(called.events()[0].as_ref().tags().iter().collect::<Vec<_>>(), ["ok"], "{called:?}");
    assert_eq!(call(&["tags"], &input).code, Some(2));
}

#[test]
fn combined_streams_keep_where_they_are_from_and_are_split_again() {
    let folder = Folder::empty();
    let test =
        |id, route: Option<&'static str>| stream(&[Draft::test(id, Status::Success).at(at(1)).route(route)]);
    let one = folder.write("one", test("a", None));
    let two = folder.write("two", test("b", Some("0")));
    let called = call(&["combine", &one, &format!("w={two}"), "-"], &test("c", Some("0/1")));
    assert_eq!(called.code, Some(0), "{called:?}");
    let mut seen: Vec<(String, String)> = called
        .events()
        .iter()
        .map(|event| (event.as_ref().id().unwrap().to_owned(), event.as_ref().route().unwrap().to_owned()))
        .collect();
    seen.sort();
    let pair = |id: &str, route: &str| (id.to_owned(), route.to_owned());
    assert_eq!(seen, [pair("a", "0"), pair("b", "w/0"), pair("c", "1/0/1")]);

    let parts = folder.named("parts");
    let routeless = [&called.stdout[..], &test("d", None), &test("e", Some("../x"))].concat();
    let called = call(&["split", "-d", &parts], &routeless);
    assert_eq!(called.code, Some(0), "{called:?}");
    let mut names: Vec<String> = std::fs::read_dir(&parts)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["%2E..subunit", "0.subunit", "1.subunit", "none.subunit", "w.subunit"]);
    let read = |name: &str| std::fs::read(format!("{parts}/{name}.subunit")).unwrap();
    assert_eq!(read("0"), test("a", None));
    assert_eq!(read("w"), test("b", Some("0")));
    assert_eq!(read("1"), test("c", Some("0/1")));
    assert_eq!(read("none"), test("d", None));
    assert_eq!(read("%2E."), test("e", Some("x")));
    for wrong in [&["combine"][..], &["combine", "0=x", "0=y"], &["combine", "/no/such/file"]] {
        assert_eq!(call(wrong, b"").code, Some(2), "{wrong:?}");
    }
}

#[test]
fn commands_are_combined() {
    let folder = Folder::empty();
    let one = folder.write("one", stream(&[Draft::test("a", Status::Success)]));
    let cat = format!("x=cat {one}");
    let called = call(&["combine", "-c", &cat, "-c", &format!("cat {one}; echo done; exit 3")], b"");
    assert_eq!(called.code, Some(1), "{called:?}");
    assert!(called.stderr.contains("ended with exit status: 3"), "{called:?}");
    let mut routes: Vec<_> =
        called.events().iter().map(|event| event.as_ref().route().unwrap().to_owned()).collect();
    routes.sort();
    assert_eq!(routes, ["0", "0", "x"]);
}

#[test]
fn a_reader_that_goes_away_has_seen_what_it_wanted() {
    let many = mixed().repeat(20_000);
    for arguments in [
        &["cat"][..],
        &["filter", "--all"],
        &["tags", "x"],
        &["to-json"],
        &["ls"],
        &["show"],
        &["to-tap"],
        &["combine", "-"],
    ] {
        let mut child = command(arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        drop(child.stdout.take());
        std::thread::scope(|scope| {
            scope.spawn(|| std::io::Write::write_all(&mut stdin, &many));
            let called = wait(child);
            assert_eq!(
                (called.code, called.stderr.replace("printed\n", "").as_str()),
                (Some(0), ""),
                "{arguments:?}"
            );
        });
    }
    // Nothing to read, and nobody to tell.
    let mut nothing = command(&["cat"]);
    let called = wait(nothing.stdin(Stdio::null()).spawn().unwrap());
    assert_eq!((called.code, called.stdout.len()), (Some(0), 0));
}

#[test]
fn what_cannot_be_read_is_told() {
    for path in ["/no/such/file", "/"] {
        let called = call(&["cat", path], b"");
        assert!(called.code == Some(2) && called.stderr.starts_with("error: cannot read "), "{called:?}");
    }
    let called = call(&["cat", "-o", "/no/such/file"], b"");
    assert!(called.code == Some(2) && called.stderr.contains("/no/such/file"), "{called:?}");
    let called = call(&["cat", "-o", "/dev/full"], &mixed());
    assert!(called.code == Some(3) && called.stderr.contains("/dev/full"), "{called:?}");
}

#[test]
fn combined_packets_keep_their_bytes() {
    let bytes = vec![b'x'; testbed_subunit::v2::MAX_PACKET - 30];
    let full = Draft::output("core", &bytes).eof(true);
    let called = call(&["combine", "-"], &[stream(&[full]), stream(&[full.route("9")])].concat());
    let seen = called.events();
    let of = |route: &str| {
        let events = seen.iter().map(Event::as_ref).filter(|event| event.route() == Some(route));
        events.map(|event| event.file().unwrap().bytes.len()).collect::<Vec<_>>()
    };
    assert_eq!((of("0"), of("0/9")), (vec![bytes.len()], vec![bytes.len()]));
    // Where a route has no room, the file comes in two pieces.
    let called = call(&["combine", &format!("{}=-", "long".repeat(10))], &stream(&[full]));
    let seen = called.events();
    let length: usize = seen.iter().map(|event| event.as_ref().file().unwrap().bytes.len()).sum();
    let ends: Vec<bool> = seen.iter().map(|event| event.as_ref().eof()).collect();
    assert_eq!((length, ends), (bytes.len(), vec![false, true]));
}

#[test]
fn input_goes_back_to_one_leaf() {
    let testbed = env!("CARGO_BIN_EXE_testbed");
    let inner = format!("b={testbed} stream combine --stdin -c 7=cat -c 8=cat");
    let to = |route: &'static str, bytes: &'static [u8]| Draft::output("stdin", bytes).route(route);
    let input = stream(&[
        to("b/7", b"to b 7\n"),
        to("a", b"first\n"),
        to("nobody", b"lost\n"),
        to("a", b"second\n").eof(true),
        to("a", b"too late\n"),
    ]);
    let called = call(&["combine", "--stdin", "-c", "a=cat", "-c", &inner], &input);
    assert_eq!(called.code, Some(0), "{called:?}");
    let seen = called.events();
    let of = |route: &str| {
        let events = seen.iter().map(Event::as_ref).filter(|event| event.route() == Some(route));
        events.flat_map(|event| event.file().unwrap().bytes.to_vec()).collect::<Vec<u8>>()
    };
    assert_eq!((of("a"), of("b/7"), of("b/8")), (b"first\nsecond\n".to_vec(), b"to b 7\n".to_vec(), vec![]));
    assert_eq!(call(&["combine", "--stdin", "-"], b"").code, Some(2));
}

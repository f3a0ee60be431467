//! Words, and what they mean.

use super::*;
use crate::agent::{Condition, Program, Tool};
use crate::quantity::parse_duration;
use proptest::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;

/// Splits as a shell does, as far as `'` goes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn call(line: &str) -> Call {
    match parse(&words(line)) {
        Ok(Parsed::Call(call)) => call,
        other => panic!("{line}: {other:?}"),
    }
}

fn wrong(line: &str) -> (String, String) {
    match parse(&words(line)) {
        Err(wrong) => (wrong.message, wrong.hint.unwrap_or_default()),
        other => panic!("{line}: {other:?}"),
    }
}

fn exec(machine: &str, argv: &[&str]) -> Exec {
    Exec {
        machine: machine.into(),
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        script: None,
        env: Vec::new(),
        cwd: None,
        user: None,
        detach: false,
        timeout: None,
        terminal: false,
        no_input: false,
    }
}

#[test]
fn a_program_keeps_its_own_options() {
    let plain = exec("m", &["ping", "-c", "1", "--", "x"]);
    assert_eq!(call("exec m -- ping -c 1 -- x"), Call::Exec(plain.clone()));
    assert_eq!(call("exec m ping -c 1 -- x"), Call::Exec(plain));
    let full = Exec {
        env: vec![("A".into(), "b=c".into()), ("D".into(), String::new())],
        cwd: Some("/srv".into()),
        user: Some("www-data".into()),
        detach: true,
        ..exec("m", &["sh", "-c", "echo -d"])
    };
    let expected = Call::Exec(full);
    assert_eq!(call("exec -d -e A=b=c --env=D= -u www-data -w/srv m -- sh -c 'echo -d'"), expected);
    assert_eq!(call("exec m -du www-data -eA=b=c --env D= --cwd /srv -- sh -c 'echo -d'"), expected);
    let timed = Exec { timeout: Some(Duration::from_millis(1500)), ..exec("m", &["x"]) };
    assert_eq!(call("exec --timeout 1.5s m x"), Call::Exec(timed));
    assert_eq!(wrong("exec -d --timeout 1s m x").0, "`--detach` and `--timeout` do not go together");
    assert_eq!(wrong("exec m").0, "PROGRAM is missing");
    assert_eq!(wrong("exec -e AB m x").0, "`AB` is no variable");
}

#[test]
fn conditions_are_those_of_the_agent() {
    let condition = |line| match call(line) {
        Call::Wait(wait) => {
            assert_eq!((wait.machine.as_str(), wait.timeout), ("m", Duration::from_secs(30)));
            wait.condition
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(condition("wait m port 70"), Condition::Port { udp: false, port: 70, address: None });
    let bound = Condition::Port { udp: true, port: 70, address: Some("::1".parse().unwrap()) };
    assert_eq!(condition("wait m port 70 --udp --address ::1"), bound);
    assert_eq!(condition("wait m file /a"), Condition::File { path: "/a".into() });
    assert_eq!(condition("wait m line /a 'b c'"), Condition::Line { path: "/a".into(), text: "b c".into() });
    let success = Condition::Success { program: Program::Shell("true x".into()), interval_ms: 100 };
    assert_eq!(condition("wait m command 'true x'"), success);
    assert_eq!(condition("wait m exit 7"), Condition::Exit { pid: 7 });
    assert_eq!(
        condition("wait m address 10.0.0.1"),
        Condition::Address { address: "10.0.0.1".parse().unwrap() }
    );
    assert_eq!(condition("wait m route ::1"), Condition::Route { to: "::1".parse().unwrap() });
    let Call::Wait(wait) = call("wait m command x --timeout 1m --interval 2s") else { panic!() };
    assert_eq!(wait.timeout, Duration::from_secs(60));
    assert_eq!(wait.condition, Condition::Success { program: Program::Shell("x".into()), interval_ms: 2000 });
    assert_eq!(wrong("wait m pört 1").0, "`pört` is nothing to wait for");
    assert_eq!(wrong("wait m port 0").1, "ports are numbers from 1 to 65535");
    assert_eq!(wrong("wait m file /a --udp").0, "`--udp` and `--address` belong to the condition `port`");
    assert_eq!(wrong("wait m file /a --interval 1s").0, "`--interval` belongs to the condition `command`");
    assert_eq!(wrong("wait m file /a --timeout soon").0, "`soon` is no value of `--timeout`");
    assert_eq!(wrong("wait m file /a /b").0, "`/b` is one argument too many");
}

#[test]
fn a_console_is_left_in_time() {
    let timeout = Some(Duration::from_secs(3));
    assert_eq!(call("console m"), Call::Console(Console { machine: "m".into(), timeout: None }));
    assert_eq!(call("console m --timeout 3s"), Call::Console(Console { machine: "m".into(), timeout }));
    assert_eq!(wrong("console").0, "MACHINE is missing");
}

#[test]
fn keys_and_texts_are_typed_and_pictures_written() {
    let typing = |text: &str, keys: &[&str]| {
        let keys = keys.iter().map(|keys| (*keys).to_owned()).collect();
        Call::Type(Typing { machine: "m".into(), text: text.into(), keys })
    };
    assert_eq!(call("type m 'ls -l' --key ret"), typing("ls -l", &["ret"]));
    assert_eq!(call("type m -k ctrl-alt-f2 -k q"), typing("", &["ctrl-alt-f2", "q"]));
    assert_eq!(wrong("type m").0, "TEXT is missing");
    assert_eq!(wrong("type m --key ctrl-nosuch").0, "no key is called `nosuch`");
    assert_eq!(wrong("type m 'für'").1, "texts are typed as on a keyboard of the United States");
    let picture = |file: Option<&str>| {
        Call::Screenshot(Screenshot { machine: "m".into(), file: file.map(str::to_owned) })
    };
    assert_eq!(call("screenshot m a.png"), picture(Some("a.png")));
    assert_eq!(call("screenshot m -"), picture(None));
    assert_eq!(wrong("screenshot m").0, "FILE is missing");
}

#[test]
fn places_are_here_or_on_a_machine() {
    let place =
        |machine: Option<&str>, path: &str| Place { machine: machine.map(str::to_owned), path: path.into() };
    let expected = Call::Copy { from: place(None, "./a:b"), to: place(Some("m"), "/c") };
    assert_eq!(call("cp ./a:b m:/c"), expected);
    assert_eq!(wrong("cp m:c d").1, "paths on machines begin with /");
    assert_eq!(wrong("cp m: d").1, "write MACHINE:PATH, or a path here");
    assert_eq!(wrong("cp a").0, "TARGET is missing");
}

#[test]
fn probes_say_whom_by_address_or_name() {
    let probe = |line| match call(line) {
        Call::Probe { machine, probe, timeout } => {
            assert_eq!(machine, "m");
            (probe, timeout)
        }
        other => panic!("{other:?}"),
    };
    let Probe::Ping { host, count, wait, interface, .. } = probe("ping m 10.0.0.1 -c 3 -W 2s -I eth1").0
    else {
        panic!()
    };
    assert_eq!(host, Host::Address("10.0.0.1".parse().unwrap()));
    assert_eq!((count, wait, interface.as_deref()), (3, Duration::from_secs(2), Some("eth1")));
    let (connect, timeout) = probe("tcp connect m server:80 --timeout 3s");
    assert!(
        matches!(connect, Probe::TcpConnect { host: Host::Name(name), port: 80, .. } if name == "server")
    );
    assert_eq!(timeout, Some(Duration::from_secs(3)));
    let (six, _) = probe("udp send m [fd00::1]:53 hello");
    assert!(matches!(six, Probe::UdpSend { host: Host::Address(_), port: 53, wait: None, .. }));
    let at = |line| match probe(line).0 {
        Probe::Listen(Tool::TcpListen { at, accept: 1, .. }) => at,
        other => panic!("{other:?}"),
    };
    assert_eq!(at("tcp listen m 80"), SocketAddr::from(([0, 0, 0, 0], 80)));
    assert_eq!(at("tcp listen m [::]:80"), "[::]:80".parse().unwrap());
    assert_eq!(wrong("tcp listen m x").1, "write a port, or an address with one: 10.0.0.1:80, [::]:80");
    for bad in ["fd00::1:80", "server", "server:", ":80", "server:99999", "[::1"] {
        wrong(&format!("tcp connect m {bad}"));
    }
    assert_eq!(wrong("http get m https://x/").1, "write http://HOST[:PORT]/PATH");
}

#[test]
fn captures_are_of_a_network_or_an_interface() {
    let node = |line: &str| match call(line) {
        Call::Capture(capture) => capture.node,
        other => panic!("{other:?}"),
    };
    assert_eq!(node("net capture lan"), Node::Network("lan".into()));
    assert_eq!(node("net capture m:eth0"), Node::Interface("m".into(), Some("eth0".into())));
    assert_eq!(node("net capture m:any"), Node::Interface("m".into(), None));
    let Call::Capture(full) = call("net capture site1 --filter 'host 10.2.0.10' -c 2 --timeout 5s") else {
        panic!()
    };
    assert_eq!(
        (full.filter.as_str(), full.count, full.timeout),
        ("host 10.2.0.10", 2, Some(Duration::from_secs(5)))
    );
    let (message, hint) = wrong("net capture lan -f 'udp prt 1'");
    assert!(message.starts_with("filter, column 5"), "{message}");
    assert!(!hint.is_empty());
    assert_eq!(
        call("net cut m lan"),
        Call::Link { machine: "m".into(), network: Some("lan".into()), cut: true }
    );
    assert_eq!(call("net heal m"), Call::Link { machine: "m".into(), network: None, cut: false });
}

#[test]
fn signals_have_names_and_numbers() {
    let signal = |line: &str| match call(line) {
        Call::Kill { signal, pids, .. } => (signal, pids),
        other => panic!("{other:?}"),
    };
    assert_eq!(signal("kill m 5 6"), (libc::SIGTERM, vec![5, 6]));
    for name in ["KILL", "SIGKILL", "kill", "9"] {
        assert_eq!(signal(&format!("kill m -s {name} -- -5")), (libc::SIGKILL, vec![-5]));
    }
    assert_eq!(wrong("kill m -s STAB 5").0, "there is no signal `STAB`");
    assert_eq!(wrong("kill m 0").0, "`0` is no process");
    assert_eq!(wrong("kill m -- -1").0, "`-1` is no process");
}

#[test]
fn what_is_wrong_comes_with_the_way_out() {
    assert_eq!(wrong("").1, "`testbed --help` says what there is");
    assert_eq!(wrong("frobnicate").0, "there is no command `frobnicate`");
    assert_eq!(wrong("up").1, "call it on the host");
    assert_eq!(wrong("net").1, "after `net` comes one of capture, attach, detach, cut, heal");
    assert_eq!(wrong("net cat x").0, "there is no `net cat`");
    assert_eq!(
        wrong("ping m x --cuont 3").1,
        "its options are --count, --interval, --wait, --size, --interface, --timeout"
    );
    assert_eq!(wrong("ping m x -c three").0, "`three` is not a number that can be the value of `--count`");
    assert_eq!(wrong("ping m x -c 1 -c 2").0, "the option `--count` may stand only once");
    assert_eq!(wrong("ping m x -c").0, "the option `--count` needs a value: NUMBER");
    assert_eq!(wrong("exec --detach=yes m x").0, "the option `--detach` takes no value");
    assert_eq!(wrong("ps"), ("MACHINE is missing".into(), "usage: testbed ps MACHINE".into()));
}

#[test]
fn every_command_has_help() {
    let help = |line: &str| match parse(&words(line)) {
        Ok(Parsed::Help(text)) => text,
        other => panic!("{line}: {other:?}"),
    };
    let all = help("--help");
    for name in table::names() {
        assert!(all.contains(&format!("  {name} ")), "{name} is not in the help");
        let own = help(&format!("{name} --help"));
        assert!(own.contains(&format!("Usage: testbed {name}")), "{own}");
        assert!(own.lines().all(|line| line.chars().count() <= 100), "{own}");
    }
    assert!(help("net --help").contains("net capture"));
    assert_eq!(parse(&words("--version")), Ok(Parsed::Version));
}

#[test]
fn names_are_those_of_the_hosts_file() {
    let names =
        names_of("# all\n127.0.0.1 localhost\n10.0.0.1\tgw gateway # the one\nnonsense x\n\nfd00::1 gw\n");
    let shown: Vec<String> = names.iter().map(|(name, address)| format!("{name}={address}")).collect();
    assert_eq!(shown, ["localhost=127.0.0.1", "gw=10.0.0.1", "gateway=10.0.0.1", "gw=fd00::1"]);
}

proptest! {
    #[test]
    fn no_words_panic(given in prop::collection::vec("[-a-z0-9:/=. ]{0,12}|exec|wait|net|capture|tcp|kill|cp|-c|--", 0..8)) {
        let _ = parse(&given);
    }

    #[test]
    fn durations_are_read_as_they_are_written(millis in 1u64..2_000_000_000) {
        prop_assert_eq!(parse_duration(&format!("{millis}ms")), Ok(Duration::from_millis(millis)));
    }
}

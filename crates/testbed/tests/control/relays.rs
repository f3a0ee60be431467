//! What machines are asked through the keeper.

use crate::{Served, eventually, runs, shell};
use std::time::{Duration, Instant};
use testbed::FaultKind;
use testbed::control::agent::{Exit, Reply, Request};
use testbed::control::{Happening, Talk};
use testbed_agent::frame::Stream;

/// What a program wrote, and how it ended.
fn to_the_end(mut talk: Talk) -> (Vec<u8>, Vec<u8>, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match talk.next(Some(end)).unwrap() {
            Happening::Data(Stream::Error, bytes) => err.extend(bytes),
            Happening::Data(_, bytes) => out.extend(bytes),
            Happening::Reply(Reply::Ended { how, .. }) => return (out, err, how),
            _ => {}
        }
    }
}

#[test]
fn streams_keep_apart_and_long_ones_flow_both_ways() {
    let served = Served::up("[machines.m]\n");
    let client = served.client();
    let talk = client.open("m", shell("cat; echo to-err >&2; exit 7")).unwrap();
    let credit = talk.credit();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let input = sent.clone();
    let sender = std::thread::spawn(move || {
        assert!(credit.send(&input));
        credit.finish();
    });
    let (out, err, how) = to_the_end(talk);
    sender.join().unwrap();
    assert!(out == sent, "{} bytes of {}", out.len(), sent.len());
    assert_eq!((err.as_slice(), how), (&b"to-err\n"[..], Exit::Code(7)));
}

#[test]
fn many_clients_at_once_do_not_mix() {
    let served = Served::up("[machines.a]\n[machines.b]\n");
    std::thread::scope(|scope| {
        for number in 0..24 {
            let served = &served;
            scope.spawn(move || {
                let machine = if number % 2 == 0 { "a" } else { "b" };
                let text = format!("hostname; for i in 1 2 3 4 5; do echo {number}; done");
                let (out, _, how) = to_the_end(served.client().open(machine, shell(&text)).unwrap());
                assert_eq!(how, Exit::Code(0));
                let wanted = format!("{machine}\n{}", format!("{number}\n").repeat(5));
                assert_eq!(String::from_utf8_lossy(&out), wanted);
            });
        }
    });
}

#[test]
fn who_goes_takes_what_it_opened_along() {
    let served = Served::up("[machines.m]\n");
    let client = served.client();
    let talk = client.open("m", shell("sleep 71.01")).unwrap();
    eventually("it runs", || runs(&served.bed, "m", "sleep 71.01"));
    drop((talk, client));
    eventually("it was killed", || !runs(&served.bed, "m", "sleep 71.01"));
}

#[test]
fn faults_name_the_machine_and_the_way_out() {
    let mut served = Served::up("[machines.m]\n");
    let client = served.client();
    let missing = client.request("n", Request::Stat { path: "/".into() }).unwrap_err();
    assert_eq!(missing.kind, FaultKind::NotFound);
    assert_eq!(missing.hint.as_deref(), Some("there are: m"));
    let absent = client.request("m", Request::Stat { path: "/no/such".into() }).unwrap_err();
    assert_eq!((absent.kind, absent.machine.as_deref()), (FaultKind::NotFound, Some("m")));
    served.bed["m"].kill(Duration::from_secs(10)).unwrap();
    let ended = client.request("m", Request::Stat { path: "/".into() }).unwrap_err();
    assert_eq!((ended.kind, ended.machine.as_deref()), (FaultKind::State, Some("m")));
    served.server = None;
    assert!(!served.path.exists());
    let gone = client.request("m", Request::Stat { path: "/".into() }).unwrap_err();
    assert!(matches!(gone.kind, FaultKind::Protocol | FaultKind::System), "{gone}");
}

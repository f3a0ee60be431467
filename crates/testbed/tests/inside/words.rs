//! The words, one after another, for real.

use crate::{SOON, THREE, drive, ends, up};

#[test]
fn programs_end_as_they_do_on_their_machine() {
    let bed = up(THREE);
    let (code, stdout, stderr) =
        drive(&bed, "echo in | testbed exec one -- sh -c 'hostname; cat; echo err >&2; exit 7'");
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (7, "one\nin\n", "err\n"));
    assert_eq!(ends(&bed, 0, "testbed exec -e A='x y' -w /etc one -- sh -c 'echo $A $PWD'"), "x y /etc\n");
    assert_eq!(ends(&bed, 0, "testbed exec -u nobody one id -un"), "nobody\n");
    assert_eq!(ends(&bed, 137, "testbed exec one -- sh -c 'kill -9 $$'"), "");
    let late = ends(&bed, 124, "testbed exec --timeout 200ms one sleep 100");
    assert!(late.contains("one: the program was killed: its time was over"), "{late}");
    let missing = ends(&bed, 125, "testbed exec one -- no-such-program");
    assert!(missing.contains("one: run no-such-program"), "{missing}");
    let nobody = ends(&bed, 125, "testbed exec three true");
    assert!(nobody.contains("no machine `three`") && nobody.contains("driver, one, two"), "{nobody}");
    assert!(ends(&bed, 125, "testbed exec one").contains("usage: testbed exec"));
}

#[test]
fn signals_are_the_programs() {
    let bed = up(THREE);
    let text = "testbed exec one -- sh -c 'trap \"echo told; exit 9\" TERM; echo up; while :; do sleep 0.05; done' >/root/said &
        testbed wait driver line /root/said up --timeout 10s; kill $!; wait $!; status=$?; cat /root/said; exit $status";
    let (code, stdout, stderr) = drive(&bed, text);
    assert_eq!((code, stdout.as_str()), (9, "up\ntold\n"), "{stderr}");
}

#[test]
fn a_detached_program_goes_on_by_itself() {
    let bed = up(THREE);
    let pid = ends(&bed, 0, "testbed exec -d one -- sleep 47.12");
    let pid = pid.trim();
    assert!(ends(&bed, 0, "testbed ps one").contains("sleep 47.12"));
    ends(&bed, 1, &format!("testbed wait one exit {pid} --timeout 100ms"));
    ends(&bed, 0, &format!("testbed kill -s KILL one {pid} && testbed wait one exit {pid}"));
    assert!(!ends(&bed, 0, "testbed ps one").contains("sleep 47.12"));
}

#[test]
fn files_go_both_ways() {
    let bed = up(THREE);
    let text = "set -e
        mkdir -p /root/tree/deep; head -c 1000000 /dev/urandom >/root/tree/deep/big
        ln -s big /root/tree/deep/link; printf hello >/root/small; chmod 750 /root/small
        testbed cp /root/tree one:/srv/new/tree
        testbed cp /root/small one:/srv
        testbed exec one -- sh -c 'stat -c %a /srv/small; readlink /srv/new/tree/deep/link'
        testbed cp one:/srv/new/tree /root/back
        testbed cp one:/srv/small /root/back/other
        cmp /root/tree/deep/big /root/back/deep/big
        cat /root/back/other";
    assert_eq!(ends(&bed, 0, text), "750\nbig\nhello");
    // Longer than all that may be under way, many times over.
    let text = "testbed exec one -- sh -c 'head -c 30000000 /dev/zero >/srv/large'
        testbed cp one:/srv/large /root && stat -c %s /root/large";
    assert_eq!(ends(&bed, 0, text), "30000000\n");
    assert!(ends(&bed, 3, "testbed cp one:/no/such /root").contains("one: "));
    assert!(ends(&bed, 3, "testbed cp /no/such one:/root").contains("copy /no/such"));
    assert!(ends(&bed, 2, "testbed cp one:/etc/hosts two:/root").contains("MACHINE:PATH"));
}

#[test]
fn files_are_made_looked_at_and_removed() {
    let bed = up(THREE);
    let text = "set -e
        testbed file mkdir one:/srv/d; testbed file mkdir -p one:/srv/d/e
        echo text | testbed exec one -- sh -c 'cat >/srv/d/f; chmod 640 /srv/d/f; touch -d @1000 /srv/d/f; ln -s f /srv/d/l'
        testbed file ls one:/srv/d
        testbed file stat one:/srv/d/f --format json
        testbed file stat one:/srv/d/l | tail -1 | sed 's/ [0-9]\\+  l/  l/'
        testbed file mv one:/srv/d/f /srv/g
        testbed exec one cat /srv/g
        testbed file rm one:/srv/g
        testbed file rm -r one:/srv/d
        testbed file ls one:/srv";
    let expected = "e\nf\nl\n\
        {\"name\": \"f\", \"kind\": \"file\", \"mode\": \"0640\", \"uid\": 0, \"gid\": 0, \"size\": 5, \
        \"modified_ns\": 1000000000000, \"target\": null}\n\
        link  0777  0:0    1      l -> f\ntext\n";
    assert_eq!(ends(&bed, 0, text), expected);
    assert_eq!(ends(&bed, 0, "testbed file ls one:/srv --format json"), "[]\n");
    assert_eq!(ends(&bed, 0, "testbed file exists one:/etc/; testbed file exists one:/etc"), "");
    assert_eq!(ends(&bed, 1, "testbed file exists one:/etc/hosts/"), "", "no folder");
    assert!(ends(&bed, 1, "testbed file stat one:/none").contains("one: look at /none"));
    let temporary = ends(&bed, 0, "testbed file temp one");
    assert_eq!(ends(&bed, 0, &format!("testbed exec one stat -c %a {temporary}")), "600\n");
    let folder = ends(&bed, 0, "testbed file temp --folder one");
    assert_eq!(ends(&bed, 0, &format!("testbed exec one stat -c %a {folder}")), "700\n");
    assert!(ends(&bed, 3, "testbed file mkdir one:/etc").contains("make folder /etc"));
    assert!(ends(&bed, 3, "testbed file rm one:/etc").contains("remove /etc"), "not without -r");
    assert!(ends(&bed, 2, "testbed file ls /etc").contains("write MACHINE:PATH"));
    assert!(ends(&bed, 2, "testbed file stat one:/etc --format xml").contains("text and json"));
    // One that has ended has files all the same.
    bed.stop("one", testbed::bed::Ending::Hard).unwrap();
    ends(&bed, 0, "testbed file exists one:/etc/hosts && testbed file mkdir one:/srv/later");
}

#[test]
fn variables_pass_between_machines_and_the_host() {
    let bed = up(THREE);
    ends(&bed, 0, "testbed var set driver ready 'yes, it is' && testbed var set one role server");
    assert_eq!(bed["driver"].variables().get("ready").as_deref(), Some("yes, it is"));
    bed["driver"].variables().set("answer", "a \"quoted\"\nline").unwrap();
    assert_eq!(ends(&bed, 0, "testbed var get driver answer"), "a \"quoted\"\nline\n");
    let text = "testbed var list driver --format json";
    let expected = "{\n  \"answer\": \"a \\\"quoted\\\"\\u000aline\",\n  \"ready\": \"yes, it is\"\n}\n";
    assert_eq!(ends(&bed, 0, text), expected);
    assert_eq!(ends(&bed, 0, "testbed var list one"), "role=server\n");
    assert_eq!(ends(&bed, 0, "testbed var list two"), "");
    assert!(ends(&bed, 1, "testbed var get driver none").contains("driver: `none` is not set"));
    assert!(ends(&bed, 1, "testbed var get driver none --wait 100ms").contains("within 0.1 s"));
    ends(&bed, 0, "testbed var rm one role");
    assert!(ends(&bed, 1, "testbed var rm one role").contains("one: `role` is not set"));
    assert!(ends(&bed, 2, "testbed var set one 'two words' x").contains("a key has 1 to 128 bytes"));
    assert!(ends(&bed, 3, "testbed var set three k x").contains("no machine `three`"));
    let waiting = bed["driver"].shell("testbed var get one later --wait 20s");
    let (mut waiting, _pipes) = waiting.spawn().unwrap();
    waiting.pid().unwrap();
    bed["one"].variables().set("later", "now").unwrap();
    assert!(waiting.wait(Some(SOON)).unwrap().0.success());
    // More than one answer holds.
    for n in 0..20 {
        bed["one"].variables().set(&format!("k{n:02}"), &"v".repeat(30_000)).unwrap();
    }
    assert_eq!(
        ends(&bed, 0, "testbed var list one | wc -lc").split_whitespace().collect::<Vec<_>>(),
        ["21", "600110"]
    );
}

#[test]
fn the_address_alone_is_told() {
    let bed = up(THREE);
    assert_eq!(ends(&bed, 0, "testbed address one"), "10.1.0.2\n");
    assert_eq!(ends(&bed, 0, "testbed address one --network lan --wait 5s -4"), "10.1.0.2\n");
    let none = ends(&bed, 1, "testbed address one -6 --wait 100ms --network lan");
    assert!(none.contains("one: no IPv6 address on the network `lan` within 0.1 s"), "{none}");
    ends(&bed, 0, "testbed exec one ip address add 2001:db8::7/64 dev eth0 nodad");
    assert_eq!(ends(&bed, 0, "testbed address one --ipv6"), "2001:db8::7\n");
    let lost = ends(&bed, 3, "testbed address one --network wan");
    assert!(lost.contains("not on the network `wan`") && lost.contains("it is on: lan"), "{lost}");
}

#[test]
fn a_script_is_given_to_its_interpreter() {
    let bed = up(THREE);
    let text = r#"testbed exec -n -s 'import sys; print("from", sys.argv[0][:14]); sys.exit(4)' one python3"#;
    assert_eq!(ends(&bed, 4, text), "from /proc/self/fd/\n");
    let pid = ends(&bed, 0, "testbed exec -d --script 'echo $$ >/root/pid; exec sleep 47.13' one sh");
    ends(&bed, 0, "testbed wait one file /root/pid");
    ends(&bed, 0, &format!("testbed wait one line /root/pid {pid}"));
}

#[test]
fn conditions_wake_or_are_given_up() {
    let bed = up(THREE);
    ends(&bed, 0, "testbed wait one address 10.1.0.2 && testbed wait one route 10.1.0.1");
    ends(
        &bed,
        0,
        "(sleep 0.2; testbed exec one -- sh -c 'echo a word here >/root/f') & testbed wait one file /root/f",
    );
    ends(&bed, 0, "testbed wait one line /root/f word && testbed wait one command 'hostname | grep one'");
    let late = ends(&bed, 1, "testbed wait one line /root/f nothing --timeout 100ms");
    assert!(late.contains("one: /root/f must have a line with `nothing`: not within 0.1 s"), "{late}");
    ends(&bed, 1, "testbed wait one port 700 --timeout 100ms");
    ends(&bed, 1, "testbed wait one command false --timeout 300ms");
    assert!(ends(&bed, 2, "testbed wait one moon").contains("`moon` is nothing to wait for"));
}

#[test]
fn probes_tell_answers_from_silence() {
    let bed = up(THREE);
    let answered = ends(&bed, 0, "testbed ping one two -c 3 -i 1ms");
    assert!(answered.starts_with("3 sent, 3 answered; "), "{answered}");
    ends(&bed, 1, "testbed ping one 10.1.0.77 -W 100ms");
    assert!(ends(&bed, 0, "testbed trace one 10.1.0.3").contains("1  10.1.0.3"));
    let refused = ends(&bed, 1, "testbed tcp connect one two:700");
    assert!(refused.contains("one: connect to 10.1.0.3:700: Connection refused"), "{refused}");
    let ready = "read word </root/said; test $word = ready";
    let text = format!(
        "mkfifo /root/said; testbed tcp listen two 700 --greeting hello 2>/root/said >/root/heard & {ready}
         echo question | testbed tcp connect one two:700; wait $!; cat /root/heard"
    );
    assert_eq!(ends(&bed, 0, &text), "helloquestion\n");
    let text = format!(
        "testbed udp listen two 701 --echo 2>/root/said & {ready}
         testbed udp send one two:701 ping -W 2s; wait $!"
    );
    assert_eq!(ends(&bed, 0, &text).matches("  ping").count(), 2);
    ends(&bed, 1, "testbed udp send one two:702 x -W 200ms");
    let never = ends(&bed, 1, "testbed udp listen two 703 --timeout 200ms");
    assert_eq!(never, "ready\n");
    let text = format!(
        "testbed http serve two 80 --text page --count 1 2>/root/said & {ready}
         testbed http get one http://two/; wait $!"
    );
    assert_eq!(ends(&bed, 0, &text), "page");
    let unknown = ends(&bed, 3, "testbed ping one three");
    assert!(unknown.contains("find the address of `three`"), "{unknown}");
}

#[test]
fn links_are_cut_healed_and_watched() {
    let bed = up(THREE);
    ends(&bed, 0, "testbed net cut one && ! testbed ping one two -W 200ms");
    ends(&bed, 0, "testbed net heal one lan && testbed ping one two -W 2s");
    let missing = ends(&bed, 3, "testbed net cut one wan");
    assert!(missing.contains("one: not on the network `wan`"), "{missing}");
    for place in ["lan", "two:eth0", "two:any"] {
        let text = format!(
            "rm -f /root/said; mkfifo /root/said
             testbed net capture {place} -f 'icmp and dst host 10.1.0.3' -c 1 --timeout 5s 2>/root/said >/root/pcap &
             read word </root/said; test $word = ready && testbed ping one two; wait $! && wc -c </root/pcap"
        );
        let (code, stdout, stderr) = drive(&bed, &text);
        let size: u32 = stdout.lines().last().unwrap_or_default().trim().parse().unwrap_or(0);
        assert!(code == 0 && size > 150, "{place}: {code} {stdout}{stderr}");
        let silent = format!("testbed net capture {place} -f 'udp port 9' -c 1 --timeout 200ms >/root/pcap");
        let silent = ends(&bed, 1, &silent);
        assert_eq!(silent, "ready\ntestbed: 0 packets\n", "{place}");
        ends(&bed, 0, &format!("testbed net capture {place} --timeout 50ms >/root/pcap"));
    }
}

#[test]
fn machines_go_on_networks_and_off() {
    let bed = up(&format!(
        "{THREE}\n[networks.far]\nsubnet = '10.2.0.0/24'\n[machines.three]\ninterfaces = {{ far = '10.2.0.3' }}"
    ));
    ends(&bed, 1, "testbed ping driver 10.2.0.3 -W 300ms");
    ends(&bed, 0, "testbed net attach driver far --address 10.2.0.1 && testbed ping driver three");
    assert_eq!(ends(&bed, 0, "testbed address driver --network far"), "10.2.0.1\n");
    assert!(ends(&bed, 0, "testbed status").contains("lan=10.1.0.1 far=10.2.0.1"));
    assert!(
        ends(&bed, 3, "testbed net attach driver far").contains("driver: attach it to `far`: it is on it")
    );
    ends(&bed, 0, "testbed net detach driver far");
    ends(&bed, 1, "testbed ping driver 10.2.0.3 -W 300ms");
    let lost = ends(&bed, 3, "testbed net detach driver lan");
    assert!(lost.contains("it is on it by its file") && lost.contains("`net cut` takes it off"), "{lost}");
    assert!(ends(&bed, 2, "testbed net attach one far -a 10.2.0").contains("`10.2.0` is no IP address"));
    assert!(ends(&bed, 2, "testbed net attach one far -a 10.9.0.1").contains("10.9.0.1/24"));
}

#[test]
fn ports_are_reached_without_a_route() {
    let bed = up(THREE);
    let text = "testbed exec -d one -- python3 -c '
import socket
s = socket.create_server((\"127.0.0.1\", 700)); c, _ = s.accept(); c.sendall(c.recv(100).upper())'
        testbed wait one port 700 && echo hello | testbed connect one 700";
    let said = ends(&bed, 0, text);
    assert!(said.ends_with("HELLO\n"), "{said}");
    let refused = ends(&bed, 1, "testbed connect one 701 </dev/null");
    assert!(refused.contains("onnect"), "{refused}");
}

#[test]
fn the_status_names_all_machines() {
    let bed = up(THREE);
    let status = ends(&bed, 0, "testbed status");
    let lines: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["MACHINE", "STATE", "ADDRESSES"]);
    assert_eq!(lines[2], ["one", "running", "lan=10.1.0.2"]);
    bed["two"].pause().unwrap();
    assert!(ends(&bed, 0, "testbed status").contains("two      paused"));
    bed["two"].resume().unwrap();
    bed["two"].kill(SOON).unwrap();
    assert!(ends(&bed, 0, "testbed status").contains("stopped"));
    let gone = ends(&bed, 125, "testbed exec two true");
    assert!(gone.contains("two"), "{gone}");
}

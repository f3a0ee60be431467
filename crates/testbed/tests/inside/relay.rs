//! What goes through process 1 of a machine that drives.

use crate::{SOON, THREE, ends, up};
use testbed::Bed;
use testbed::control::agent::Condition;

/// The most memory that a process has had, in bytes.
fn peak_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn processes_with(bed: &Bed, machine: &str, mark: &str) -> usize {
    let all = bed[machine].processes().unwrap();
    all.iter().filter(|process| process.command.contains(mark)).count()
}

#[test]
fn much_output_goes_through_little_memory() {
    const BYTES: &str = "67108864";
    let bed = up(THREE);
    let pid = bed["driver"].pid().unwrap();
    ends(&bed, 0, "testbed exec one true");
    let before = peak_of(pid);
    let sums = ends(
        &bed,
        0,
        &format!(
            "testbed exec one -- sh -c 'yes | head -c {BYTES}' | sha256sum; yes | head -c {BYTES} | sha256sum"
        ),
    );
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums[0], sums[1]);
    // One that reads late, while another works.
    let slow = format!("testbed exec one -- sh -c 'yes | head -c {BYTES}' | (sleep 1; wc -c) &");
    let said = ends(&bed, 0, &format!("{slow} testbed exec two hostname; wait"));
    assert_eq!(said.split_whitespace().collect::<Vec<_>>(), ["two", BYTES]);
    let grown = peak_of(pid) - before;
    assert!(grown < 4 << 20, "process 1 has grown by {grown} bytes");
}

#[test]
fn much_input_goes_through_too() {
    let bed = up(THREE);
    let pid = bed["driver"].pid().unwrap();
    let before = peak_of(pid);
    let text = "yes | head -c 16777216 | testbed exec one -- sh -c 'sleep 0.5; sha256sum'; yes | head -c 16777216 | sha256sum";
    let sums = ends(&bed, 0, text);
    let sums: Vec<&str> = sums.lines().collect();
    assert_eq!(sums[0], sums[1]);
    let grown = peak_of(pid) - before;
    assert!(grown < 4 << 20, "process 1 has grown by {grown} bytes");
}

#[test]
fn who_is_killed_takes_along_what_it_started() {
    let bed = up(THREE);
    let text = "testbed exec one -- sleep 47.13 & client=$!; testbed exec two -- sleep 47.14 & echo $client; wait $client";
    let mut running = bed["driver"].shell(text).start().unwrap();
    bed["one"].wait_until_succeeds("ps ax | grep -v grep | grep 47[.]13", SOON).unwrap();
    bed["two"].wait_until_succeeds("ps ax | grep -v grep | grep 47[.]14", SOON).unwrap();
    let remote =
        bed["one"].processes().unwrap().into_iter().find(|p| p.command == "sleep 47.13").unwrap().pid;
    let clients = bed["driver"].processes().unwrap();
    let client = clients.iter().find(|p| p.command.starts_with("testbed exec one")).unwrap().pid;
    bed["driver"].signal(client as i32, 9).unwrap();
    bed["one"].wait_for(Condition::Exit { pid: remote }, "the program must end", SOON).unwrap();
    assert_eq!(running.wait(Some(SOON)).unwrap().0.shell_code(), 137);
    // The other one is alive, and so is what it started.
    assert_eq!(processes_with(&bed, "two", "sleep 47.14"), 1);
    bed["driver"].succeed("testbed exec two -- pkill -f 47.14").unwrap();
}

#[test]
fn many_clients_at_once_have_each_their_own() {
    let bed = up(THREE);
    let said = ends(
        &bed,
        0,
        "for n in $(seq 40); do (echo $n | testbed exec one -- sh -c 'read n; sleep 0.2; echo one $n' >/root/$n) & done
         wait; cat $(seq -f /root/%g 40)",
    );
    let expected: Vec<String> = (1..=40).map(|n| format!("one {n}")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    assert_eq!(processes_with(&bed, "one", "sleep"), 0);
}

#[test]
fn what_a_machine_says_is_its_own_even_when_it_ends() {
    let bed = up(THREE);
    let text = "testbed exec one -- sh -c 'echo before; sleep 47.15'";
    let (mut running, pipes) = bed["driver"].shell(text).spawn().unwrap();
    let mut line = String::new();
    let output = std::fs::File::from(pipes.stdout.unwrap());
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
    assert_eq!(line, "before\n");
    bed["one"].kill(SOON).unwrap();
    assert_eq!(running.wait(Some(SOON)).unwrap().0.shell_code(), 125);
    ends(&bed, 0, "testbed exec two true");
}

//! Readers of other formats need the same memory for a stream of any length.
//!
//! A process of its own, as it is the process's memory that is looked at.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fmt::Write as _;

use testbed_subunit::read::Format;

/// Bytes of the stream of each format.
const STREAM: usize = 200_000_000;

/// Bytes that the process may grow by while it reads the stream, when it has read a tenth of it.
const GROWTH: u64 = 4_000_000;

/// The most memory that this process has had, in bytes (`VmHWM` of proc_pid_status(5)).
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What stands before all tests, and what follows the last.
fn frame(format: Format) -> (&'static str, &'static str) {
    match format {
        Format::Tap => ("TAP version 14\n", "Bail out!\n"),
        Format::Junit => ("<testsuites><testsuite name='s'>", "</testsuite></testsuites>"),
        _ => ("", ""),
    }
}

/// A test that prints much, in the words of `format`. No two have the same name.
fn test(format: Format, number: usize, out: &mut String) {
    let print =
        "a line that says nothing much, as lines do, and says it in some eighty characters\\n".repeat(20);
    let lines = print.replace("\\n", "\n");
    match format {
        Format::Tap => {
            let yaml = lines.replace('\n', "\n    ");
            write!(
                out,
                "{lines}    ok 1 - a\n    1..1\nnot ok - test {number}\n  ---\n  {yaml}\n  ...\n# why\n"
            )
        }
        Format::Junit => write!(
            out,
            "<testcase classname='c' name='test{number}' time='0.1'><failure message='{lines}'>{lines}</failure>\n\
             <system-out><![CDATA[{lines}]]></system-out></testcase><!-- {lines} -->\n"
        ),
        Format::GoTest => write!(
            out,
            r#"{{"Action":"run","Package":"p","Test":"Test{number}"}}
{{"Action":"output","Package":"p","Test":"Test{number}","Output":"{print}"}}
{{"Action":"build-output","ImportPath":"p{number}","Output":"{print}"}}
{{"Action":"fail","Package":"p","Test":"Test{number}"}}
{{"Action":"output","Package":"q{number}","Output":"{print}"}}
{{"Action":"fail","Package":"q{number}","FailedBuild":"p{number}"}}
"#
        ),
        Format::Libtest => write!(
            out,
            "running 3 tests\ntest a{number} ... ok\ntest b{number} ... {lines}ok\ntest c{number} ... FAILED\n\n\
             failures:\n\n---- c{number} stdout ----\n{lines}\n\nfailures:\n    c{number}\n\n\
             test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n\
             {{\"type\":\"test\",\"event\":\"started\",\"name\":\"d{number}\"}}\n\
             {{\"type\":\"test\",\"event\":\"failed\",\"name\":\"d{number}\",\"stdout\":\"{print}\"}}\n"
        ),
        Format::Pytest => ["setup", "call", "teardown"].iter().try_for_each(|when| {
            let captured = if *when == "setup" { "" } else { &print };
            writeln!(
                out,
                "{{\"nodeid\":\"t.py::{number}\",\"when\":\"{when}\",\"outcome\":\"passed\",\
                 \"sections\":[[\"Captured stdout call\",\"{captured}\"]],\"$report_type\":\"TestReport\"}}"
            )
        }),
        Format::SubunitV1 => write!(
            out,
            "{lines}test: {number}\nfailure: {number} [\n{lines}]\ntest: m{number}\n{lines}\
             skip: m{number} [ multipart\nContent-Type: text/plain\nlog\n{:X}\r\n{lines}0\r\n]\n",
            lines.len()
        ),
        format => panic!("no stream of {format} to test with"),
    }
    .unwrap();
}

#[test]
fn memory_does_not_grow_with_the_stream() {
    for format in Format::ALL {
        let (mut reader, mut number, mut fed, mut events) = (format.reader(), 0, 0, 0_u64);
        let mut text = frame(format).0.to_owned();
        let mut at_a_tenth = None;
        while fed < STREAM {
            while text.len() < 100_000 {
                number += 1;
                test(format, number, &mut text);
            }
            reader.feed(text.as_bytes(), &mut |_| events += 1);
            fed += text.len();
            text.clear();
            if at_a_tenth.is_none() && fed > STREAM / 10 {
                at_a_tenth = Some(most_memory());
            }
        }
        reader.feed(frame(format).1.as_bytes(), &mut |_| events += 1);
        reader.finish(&mut |_| events += 1);
        assert!(events > number as u64, "{format}: {number} tests and {events} events");
        let grown = most_memory() - at_a_tenth.unwrap();
        assert!(grown < GROWTH, "{format}: {grown} bytes more behind the first tenth");
    }
}

//! subunit: what happens in a test run, as one stream of events.
//!
//! A run is not a list of results. It is things that happen: a test begins, prints, ends; a machine starts; a program
//! that knows nothing of tests writes to the same pipe. [subunit] calls each of these an *event* and gives it a
//! compact binary form, a *packet*, that survives being mixed with other output, being multiplexed, and being
//! damaged. This crate is the event, its wire format, and what can be made of a stream of them. It does no I/O, knows
//! no clock and starts no thread: bytes and events go in, events and bytes come out.
//!
//! # Writing
//!
//! An event is drafted, checked, and encoded. The check is where a bad event stops: an [`EventRef`] is one that
//! every reader takes, so that encoding it cannot fail.
//!
//! ```
//! use testbed_subunit::{Draft, Status, Timestamp, v2};
//!
//! let now = Timestamp::new(1_795_201_200, 0)?;
//! let mut stream = Vec::new();
//! let begins = Draft::test("vpn.ping", Status::InProgress).at(now).tags(&["worker-0"]);
//! v2::encode(&begins.check()?, &mut stream);
//!
//! // A file of any size goes out in pieces. The status stands on the last one.
//! let log = "no answer\n".repeat(100_000);
//! let ends = Draft::test("vpn.ping", Status::Fail).file("stdout", log.as_bytes()).eof(true);
//! for event in ends.split(64 * 1024)? {
//!     v2::encode(&event, &mut stream);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading
//!
//! A [`v2::Decoder`] takes bytes as they come and gives items: packets, noise, and damage. The events of packets
//! borrow from the decoder; [`EventRef::to_owned`] makes one that may be kept.
//!
//! Any byte may be the start of a packet, and none has to be. `0xB3`, the signature, is also the last byte of `ó`,
//! `³` and `г`. So a signature is only ever a *candidate*. It is refused at once where its header cannot be one, and it
//! is a packet only when the CRC and every field agree. Otherwise that one byte is noise, and the search goes on at the
//! next. Two things follow. Text is not taken for a packet, whatever its language or encoding: 32 bits of CRC stand
//! against it. And damage costs the damaged packet: those behind it are found even if its length was what broke.
//!
//! ```
//! use testbed_subunit::v2::{self, Corrupt, Item};
//!
//! let packet = b"\xb3\x29\x01\x0c\x03foo\x08\x55\x5f\x1b";
//! let flipped = b"\xb3\x29\x01\x20\x03foo\x08\x55\x5f\x1b"; // claims 32 bytes
//! let stream = [&flipped[..], packet, packet, "fall\u{f3} en vm1\n".as_bytes(), packet].concat();
//! let kinds: Vec<_> = v2::Items::new(&stream)
//!     .map(|item| match item {
//!         Item::Packet(packet) => packet.event.id().unwrap_or("?").to_owned(),
//!         Item::Noise(bytes) => String::from_utf8_lossy(bytes).into_owned(),
//!         Item::Damaged(damaged) => format!("{} bytes damaged", damaged.bytes.len()),
//!     })
//!     .collect();
//! assert_eq!(kinds, ["12 bytes damaged", "foo", "foo", "fall\u{f3} en vm1\n", "foo"]);
//! ```
//!
//! A failed candidate is *damage* where a packet was to be expected: at the start of the stream, behind a packet, and
//! at the start of a line if its header is right. Elsewhere it is noise, because there it is far more likely a letter.
//!
//! A false start may claim 4 MiB that never come. Nothing is ever lost by it, but a live reader would wait, so it reads by
//! [`v2::Live`], which gives up by a clock that its caller holds. By default, whatever comes in is out again a second
//! after the last input, behind however many false starts; and within 20 s where input never stops. A reader of files
//! needs no clock.
//!
//! # Folding
//!
//! A report is a fold over the stream, and the same stream always gives the same report. [`Records`] joins the events
//! of each test to a [`Record`]; a [`Summary`], [`junit`], [`tap`], [`csv`] and [`github`] are made of records; [`json`]
//! and a [`folder`] of attachments, of events.
//!
//! ```
//! use testbed_subunit::{Draft, Records, Status, Summary, junit};
//!
//! let mut records = Records::default();
//! let mut summary = Summary::default();
//! let mut report = junit::Writer::new(Vec::new(), "vpn").broken(|record| !record.runnable);
//! for draft in [
//!     Draft::activity("testbed/1/gw1", Status::Fail),
//!     Draft::test("vpn.ping", Status::Success),
//!     Draft::test("vpn.trace", Status::InProgress),
//! ] {
//!     if let Some(record) = records.event(draft.check()?) {
//!         summary.add(&record);
//!         report.add(&record);
//!     }
//! }
//! let rest = records.finish();
//! summary.add_rest(&rest);
//! rest.unfinished.iter().for_each(|record| report.add(record));
//! assert_eq!((summary.tests().passed, summary.tests().unfinished), (1, 1));
//! assert!(!summary.is_success());
//! assert!(String::from_utf8(report.finish()?)?.contains(r#"tests="3" failures="0" errors="2""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Operators
//!
//! What stands between a reader and a report is made of [`Sink`]s: see [`stream`]. They tag, stamp, route, rename,
//! filter, count and queue events, and each holds the next one.
//!
//! A multiplexer need not decode what it passes on: [`v2::Writer::forward`] changes a packet's header, route and CRC, and
//! looks at nothing else.
//!
//! # Other formats
//!
//! [`read`] makes events of what other tools print: [`tap`], [`junit`], [`gotest`], [`libtest`], [`pytest`]. Bytes may
//! come in any pieces, what is not understood comes out as output, and memory is bounded, however long the stream is.
//! [`v1`] reads and writes the lines that were subunit before there were packets.
//!
//! # What it does differently, and why
//!
//! Compared with python-subunit 1.4.6 and testtools, and with the crate `subunit` 0.3.1. Where they agree and are not
//! wrong, so do we: python-subunit's packets are ours, byte by byte. The tests of `testbed-cli` (`conformance`) send
//! 100,000 events, damaged streams, whole runs and 400 calls of `subunit-filter` through python-subunit and testtools and
//! back, and hold each expected difference down.
//!
//! | case | python-subunit, testtools | `subunit` crate | here | because |
//! |---|---|---|---|---|
//! | noise that ends in `0xB3` | may lose the next packet and report a failure | loses the next packet | noise | programs print in every language |
//! | wrong length | loses the packets it claims | same | damage, then the packets | damage should cost what is damaged |
//! | version other than 2, reserved flag | read as 2 | rejected | damage | nobody knows what it means |
//! | length in four octets | error | waits for it, loses a packet | damage at once | no packet is that long |
//! | length below 8 | reads to the end of the stream | rescans | damage, then the packets | as above |
//! | bytes between fields and CRC | ignored | CRC read from the wrong place | damage | a field went missing |
//! | file past the end of its packet | error | panics | damage | no input may stop a reader |
//! | NUL in a string | refused on reading, not on writing | accepted | refused by both | the format forbids it |
//! | nanoseconds of a second or more | carried over | kept | damage | no time is written so |
//! | time | microseconds | nanoseconds | nanoseconds | the format has them |
//! | packet too long | exception | limit is off by one | refused by [`Draft::check`]; [`Draft::split`] | logs are long |
//! | noise | a byte an event, where it cannot wait | joined | joined, to 64 KiB | each event costs some fifty bytes |
//! | memory | one packet | 4 MiB from the start | one packet, as needed | many streams are read at once |
//! | `runnable` unless said | true | false | [`Draft::test`] or [`Draft::activity`] says it | either default is wrong for one |
//! | `uxsuccess` | counts as passed | – | a failure | the format's text says so |
//! | status without a test id | ignored | – | a failing one fails the run | a failure must not vanish |
//! | tags of a test | those of the last event that has some | – | those of all its events | none is a correction of another |
//! | file after its `eof` | appended | – | begins again | the format says so |
//! | end before start | negative duration | – | zero, and [`Record::is_skewed`] | clocks differ |
//! | test that never ends | error | – | a failure | something hung or died |
//! | filter: routes, `runnable`, `exists` | dropped | – | kept | whoever filters asks for fewer tests |
//! | filter: times of a test | all are that of its end | – | kept | durations are looked at afterwards |
//! | filter: test that never ends | becomes a failed one | – | stays as it is | it hung, and that is no other failure |
//! | filter: `uxsuccess` | kept, whatever rules say of tags and text | – | kept by the same rules as others | – |
//! | filter: names | only of what passed or failed; rules see the new ones | – | of all; rules see the old ones | – |
//! | tagger: the event's own tags | changed under their owner | – | left alone | others read them too |
//! | router: event that no rule is about | exception | – | goes to the fallback | a run should not end by it |
//! | router: end of a sink that two rules lead to | as often as rules ask for it | – | once | reports are written then |
//! | router: codes | one step | – | any number, the longest first | streams are multiplexed twice |
//! | a sink of several that fails | ends the run for the others | – | they get the event | one report is not all |
//! | version 1: `test:` within a test | output, as all that follows | – | the open one fails, the new one begins | a crash should cost one test |
//! | version 1: time, number or header that cannot be read | exception | – | output | no input may stop a reader |
//! | version 1: end within details | they are lost | – | kept, and a failure | it is why the test is looked at |
//! | version 1: last line without its end | loses a character | – | read | – |
//! | version 1: output that reads as a line of the protocol | written as it is | – | indented | a log should make no tests |
//!
//! Also decided, as the format is silent: a number written longer than need be is read, and written short. Repeated
//! tags are one tag. An empty id, name or MIME type is one, and not none. A field of no tags is no field.
//!
//! [subunit]: https://github.com/testing-cabal/subunit

pub mod csv;
pub mod event;
pub mod folder;
pub mod github;
pub mod gotest;
pub mod json;
pub mod junit;
pub mod libtest;
pub mod pytest;
pub mod read;
pub mod record;
pub mod stream;
pub mod summary;
pub mod tap;
pub mod v1;
pub mod v2;
mod xml;

pub use event::{Draft, Event, EventError, EventRef, FileRef, Status, Tags, Timestamp};
pub use record::{Record, Records};
pub use stream::Sink;
pub use summary::Summary;

//! JUnit XML, as continuous integration reads and test runners write it.
//!
//! # Writing
//!
//! One suite, one case a test. What the statuses become:
//!
//! | status | element |
//! |---|---|
//! | `success` | none |
//! | `fail` | `failure`, or `error` where the testbed failed and not the test: see [`Writer::broken`] |
//! | `uxsuccess` | `failure` |
//! | `skip`, `xfail` | `skipped` |
//! | unfinished | `error` |
//! | `exists` | not in the report |
//!
//! The body of a failure is the attachment `traceback`; `stdout` and every further attachment are `system-out`,
//! `stderr` is `system-err`. Attachments whose MIME type is not text, or whose text is not UTF-8, are only named.
//!
//! ```
//! use testbed_subunit::record::Records;
//! use testbed_subunit::{Draft, Status, junit};
//!
//! let mut records = Records::default();
//! let mut report = junit::Writer::new(Vec::new(), "vpn");
//! if let Some(record) = records.event(Draft::test("tunnel.ping", Status::Success).check()?) {
//!     report.add(&record);
//! }
//! let xml = String::from_utf8(report.finish()?)?;
//! assert!(xml.contains(r#"<testcase classname="tunnel" name="ping""#));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading
//!
//! | XML | event |
//! |---|---|
//! | `testcase` | `inprogress` of `classname.name` where it begins; its status where it ends, `success` unless told |
//! | `failure` | `fail`; `message`, or else `type` or the first line, is the reason; the text is the file `traceback` |
//! | `error` | the same, with the tag `error` |
//! | `skipped` | `skip`, or `xfail` where its `type` says xfail, as pytest's does, or its `message` is ours |
//! | `skipped` of the type `todo`, as node writes it | `xfail` with a failure, else `success` with the tag `todo` |
//! | `status="notrun"`, `result="suppressed"`, … | `skip` |
//! | `flakyFailure`, `flakyError` | tag `flaky`, and a file of the element's name |
//! | `rerunFailure`, `rerunError` | tag `rerun`, and a file of the element's name |
//! | `system-out`, `system-err` | files `stdout`, `stderr`, of no test where they are a suite's |
//! | `property` | line `name=value` of the file `properties`; of the name `tag`, a tag |
//! | `file` and `line` of a case | file `location`: `path:line` |
//! | `failure` or `error` of a suite | `fail` of the suite |
//! | other elements with text | file of the element's name |
//! | what breaks off, or is no report at all | `fail` of `report` |
//! | what is no XML, text between elements | file `stdout` of no test |
//!
//! A case begins when the one before it ended, and the first at the suite's `timestamp`, or in 2000 where there is
//! none, as junitxml2subunit has it: durations are right, and order is. Names are read without their namespace. Of
//! entities only those of XML itself are known, so that none can grow; documents are UTF-8. A tag may have 1 MiB, and
//! what is nested more than 64 deep is output.
//!
//! ```
//! use testbed_subunit::read::Reader;
//! use testbed_subunit::{Status, junit};
//!
//! let mut told = Vec::new();
//! let mut each = |event: testbed_subunit::EventRef<'_>| {
//!     if let Some((id, status)) = event.id().zip(event.status()) {
//!         told.push((id.to_owned(), status));
//!     }
//! };
//! let mut reader = junit::Reader::new();
//! reader.feed(br#"<testsuite><testcase classname="vpn" name="ping" ti"#, &mut each);
//! reader.feed(br#"me="0.5"><failure message="no answer"/></testcase></testsuite>"#, &mut each);
//! reader.finish(&mut each);
//! let id = "vpn.ping".to_owned();
//! assert_eq!(told, [(id.clone(), Status::InProgress), (id, Status::Fail)]);
//! ```

mod case;
mod markup;
mod read;
mod write;

pub use self::read::Reader;
pub use self::write::Writer;

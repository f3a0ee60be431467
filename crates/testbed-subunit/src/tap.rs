//! The Test Anything Protocol: versions 12 to 14 are read, version 13 is written.
//!
//! # Writing
//!
//! One test point a record, in the order in which tests end, and the plan at the end. An expected failure is TAP's
//! `not ok … # TODO`. TAP takes `ok … # TODO` for a success, so `uxsuccess` is a plain `not ok`, as is a test that
//! never finished. Tests that are only listed have no point. What is written says the same in versions 13 and 14, and
//! calls itself 13: Perl's `prove` refuses the other.
//!
//! ```
//! use testbed_subunit::record::Records;
//! use testbed_subunit::{Draft, Status, tap};
//!
//! let mut records = Records::default();
//! let mut report = tap::Writer::new(Vec::new())?;
//! for draft in [
//!     Draft::test("ping", Status::Success),
//!     Draft::test("trace", Status::Skip).file("reason", b"no route"),
//! ] {
//!     if let Some(record) = records.event(draft.check()?) {
//!         report.add(&record)?;
//!     }
//! }
//! assert_eq!(
//!     String::from_utf8(report.finish()?)?,
//!     "TAP version 13\nok 1 - ping\nok 2 - trace # SKIP no route\n1..2\n"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reading
//!
//! | TAP | event |
//! |---|---|
//! | `ok` | `success` |
//! | `not ok` | `fail` |
//! | `ok … # SKIP why` | `skip`, `why` as its reason; `not ok … # SKIP` is `fail`, as `prove` has it |
//! | `not ok … # TODO why` | `xfail` |
//! | `ok … # TODO why` | `success` with the tag `todo`: TAP takes it for one |
//! | description | the id; without one, `test` and the number |
//! | `# Subtest: name`, what is indented under it | ids `name/…`, and `inprogress` of `name` as soon as it begins |
//! | YAML block | file `diagnostic.yaml` of its point; its `message` or `error` is the reason |
//! | comment | file `comment` of the point before it, or of the subtest it stands in, or of no test |
//! | number that is left out, or past the last point | `fail` of `test` and the number |
//! | more points than planned, a number out of order, no plan | `fail` of `plan` |
//! | `1..0 # SKIP why` | `skip` of `plan`, unless in a subtest, whose own point says it |
//! | `Bail out! why` | `fail` of `Bail out!`; nothing is read as TAP until the next `TAP version` |
//! | anything else, pragmas too | file `stdout` of no test, as it stands |
//!
//! What belongs to a point may follow it, so its status is told when something comes that does not: the next point,
//! the plan, the end. Ids are marked runnable, as only those count as tests. A line of more than 1 MiB is output, and
//! what is nested more than 32 deep as well.
//!
//! ```
//! use testbed_subunit::read::Reader;
//! use testbed_subunit::{Status, tap};
//!
//! let mut told = Vec::new();
//! let mut each = |event: testbed_subunit::EventRef<'_>| {
//!     if let Some((id, status)) = event.id().zip(event.status()) {
//!         told.push((id.to_owned(), status));
//!     }
//! };
//! let mut reader = tap::Reader::new();
//! reader.feed(b"1..3\nok 1 - pings # SKIP no route\nnot ok 2 - tr", &mut each);
//! reader.feed(b"aces\n  ---\n  message: 'no answer'\n  ...\n", &mut each);
//! reader.finish(&mut each);
//! let told: Vec<_> = told.iter().map(|(id, status)| (id.as_str(), *status)).collect();
//! assert_eq!(told, [("pings", Status::Skip), ("traces", Status::Fail), ("test 3", Status::Fail)]);
//! ```

mod line;
mod read;
mod write;

pub use self::read::Reader;
pub use self::write::Writer;

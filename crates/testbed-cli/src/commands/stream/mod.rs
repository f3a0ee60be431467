//! `testbed stream`: what can be done with a stream of events. The work is the library's
//! ([`testbed_subunit`]); here are arguments, files and exit codes.

mod combine;
mod emit;
mod feed;
mod filter;
mod from;
mod input;
mod leaves;
mod ls;
mod notify;
mod output;
mod reading;
mod records;
mod show;
mod split;
mod stats;
mod tags;
mod to_disk;
mod to_github;
mod to_json;
mod to_junit;

use self::feed::Noise;
use self::reading::Through;
use self::records::Reporting;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::place::Place;
use std::io;
use std::time::SystemTime;
use testbed_subunit::read::Format;
use testbed_subunit::{Timestamp, csv, tap, v1, v2};

/// Filter, count, convert and combine streams of test events (subunit v2).
///
/// Each reads standard input or files, and writes to standard output while it reads: any of them may stand in a pipe.
/// Those that report end with 1 where the stream tells of a failure, as do damaged packets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Arguments {
    /// Write streams out again, event by event: joined, without damage, what was printed in between as events.
    Cat(Through),
    Filter(Box<filter::Arguments>),
    #[command(alias = "tag")]
    Tags(tags::Arguments),
    Combine(combine::Arguments),
    Split(split::Arguments),
    #[command(alias = "output")]
    Emit(Box<emit::Arguments>),
    Ls(ls::Arguments),
    Stats(stats::Arguments),
    #[command(alias = "2pyunit")]
    Show(show::Arguments),
    Notify(notify::Arguments),
    ToJson(to_json::Arguments),
    #[command(alias = "2junitxml")]
    ToJunit(to_junit::Arguments),
    /// Write the Test Anything Protocol, version 13, which is also one of version 14.
    ToTap(Reporting),
    /// Write a table (CSV): a row for each test with its status, times, route, tags and reason.
    #[command(alias = "2csv")]
    ToCsv(Reporting),
    #[command(alias = "2disk")]
    ToDisk(to_disk::Arguments),
    ToGithub(to_github::Arguments),
    /// Write subunit version 1, for tools that know no other. Tests come out one after the other, as they end.
    #[command(alias = "2to1")]
    ToV1(Through),
    /// Read the Test Anything Protocol, versions 12 to 14.
    #[command(alias = "tap2subunit")]
    FromTap(from::Arguments),
    /// Read JUnit reports (XML).
    #[command(alias = "junitxml2subunit")]
    FromJunit(from::Arguments),
    /// Read what `go test -json` writes.
    #[command(alias = "gojson2subunit")]
    FromGo(from::Arguments),
    /// Read what `cargo test` prints, as text or JSON, or the JSON of cargo-nextest.
    #[command(visible_alias = "from-nextest")]
    FromLibtest(from::Arguments),
    /// Read the report log of pytest (`pytest --report-log=FILE`).
    FromPytest(from::Arguments),
    /// Read subunit version 1.
    #[command(alias = "1to2")]
    FromV1(from::Arguments),
}

impl Arguments {
    pub(crate) fn run(self, place: &Place) -> Result<Exit, Failure> {
        if let Some(folder) = &place.directory {
            std::env::set_current_dir(folder)
                .map_err(|e| Failure::call(format!("cannot enter {}: {e}", folder.display())))?;
        }
        match self {
            Arguments::Cat(through) => through.pass(Noise::Events, v2::Writer::new),
            Arguments::Filter(arguments) => arguments.run(),
            Arguments::Tags(arguments) => arguments.run(),
            Arguments::Combine(arguments) => arguments.run(),
            Arguments::Split(arguments) => arguments.run(),
            Arguments::Emit(arguments) => arguments.run(),
            Arguments::Ls(arguments) => arguments.run(),
            Arguments::Stats(arguments) => arguments.run(),
            Arguments::Show(arguments) => arguments.run(),
            Arguments::Notify(arguments) => arguments.run(),
            Arguments::ToJson(arguments) => arguments.run(),
            Arguments::ToJunit(arguments) => arguments.run(),
            Arguments::ToTap(report) => report.write(tap::Writer::new, tap::Writer::add, tap::Writer::finish),
            Arguments::ToCsv(report) => report.write(csv::Writer::new, csv::Writer::add, csv::Writer::finish),
            Arguments::ToDisk(arguments) => arguments.run(),
            Arguments::ToGithub(arguments) => arguments.run(),
            Arguments::ToV1(through) => through.pass(Noise::Events, v1::Writer::new),
            Arguments::FromTap(arguments) => arguments.run(Format::Tap),
            Arguments::FromJunit(arguments) => arguments.run(Format::Junit),
            Arguments::FromLibtest(arguments) => arguments.run(Format::Libtest),
            Arguments::FromPytest(arguments) => arguments.run(Format::Pytest),
            Arguments::FromV1(arguments) => arguments.run(Format::SubunitV1),
            Arguments::FromGo(arguments) => arguments.run(Format::GoTest),
        }
    }
}

/// The time.
///
/// # Errors
/// When no event can have it.
fn now() -> Result<Timestamp, Failure> {
    Timestamp::try_from(SystemTime::now()).map_err(|e| Failure::io("tell the time", io::Error::other(e)))
}

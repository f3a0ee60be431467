//! A folder of attachments: what is to be written where, without writing it.
//!
//! Each test has a folder with its files, and a `test.json` when it has ended. What belongs to no test is in the folder
//! `~run`. The path is relative, parted by `/`, and made of names that every file system takes: whatever an id says, it
//! leads nowhere else.
//!
//! ```text
//! vpn.ping/stdout
//! vpn.ping/test.json      {"id":"vpn.ping","status":"fail", … }
//! vpn.ping~n2/stdout      the same test, run again
//! ~at-0%2f1/vpn.ping/stdout      on the route 0/1
//! ~run/stdout
//! ```
//!
//! # Names
//!
//! Letters, digits and ``_-.,=+@()[]`` stand for themselves, and all else for its bytes: `a/b` is `a%2fb`. So does a dot
//! at either end, and the first letter of what Windows reserves, as `con`. Two names never become one:
//!
//! - where letters are large, `~c` and a number tell which, as many file systems take `A` for `a`: `Ab` is `Ab~c1`;
//! - of a name that would be longer than 120 bytes, the first 60 are kept, then `~h` and 160 bits of its SHA-256;
//! - an attachment called `test.json` is `%74est.json`; an empty name is `~`.
//!
//! A folder per test of a million tests is remembered, to tell a second run of one from its first; that is 16 MB. Past
//! them, and past 1024 files of one test, pieces are appended to what is there.
//!
//! ```
//! use testbed_subunit::folder::Folder;
//! use testbed_subunit::{Draft, Status};
//!
//! let mut folder = Folder::new();
//! let mut written = Vec::new();
//! for draft in [
//!     Draft::new().id("../etc/passwd").file("stdout", b"no "),
//!     Draft::test("../etc/passwd", Status::Fail).file("stdout", b"answer\n"),
//! ] {
//!     folder.event(draft.check()?, |piece| written.push((piece.path.to_owned(), piece.append)));
//! }
//! assert_eq!(written[0], ("%2e.%2fetc%2fpasswd/stdout".to_owned(), false));
//! assert_eq!(written[1], ("%2e.%2fetc%2fpasswd/stdout".to_owned(), true));
//! assert_eq!(written[2], ("%2e.%2fetc%2fpasswd/test.json".to_owned(), false));
//! # Ok::<(), testbed_subunit::EventError>(())
//! ```

mod component;

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use self::component::{ATTACHMENT, component};
use crate::event::{EventRef, Status, Timestamp};
use crate::json;
use crate::record::{Limits, Record, Records};

/// Tests of which is known how often they have run.
const TESTS_MAX: usize = 1_000_000;

/// Files of one test that are told apart.
const FILES_MAX: usize = 1024;

/// What is to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Piece<'a> {
    /// Path of the file, relative to the folder, parted by `/`. Folders on the way may have to be made.
    pub path: &'a str,
    /// The next bytes of it. May be none: the file is to be there all the same.
    pub bytes: &'a [u8],
    /// Whether they go behind what has been written there, or begin the file anew.
    pub append: bool,
}

/// Says what of a stream of events is written where.
#[derive(Clone, Debug)]
pub struct Folder {
    records: Records,
    open: HashMap<Box<str>, Open>,
    /// How often a test has ended, by the hash of route and id. Where two share one, a number is left out.
    runs: HashMap<u64, u32>,
}

/// The files of a test that runs.
#[derive(Clone, Debug, Default)]
struct Open {
    files: HashMap<Box<str>, Written>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Written {
    /// How often the file has begun.
    begun: u32,
    ended: bool,
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Folder {
    /// A folder in which nothing is.
    pub fn new() -> Self {
        let limits = Limits { bytes: 0, attachments: FILES_MAX };
        Self { records: Records::new(limits), open: HashMap::new(), runs: HashMap::new() }
    }

    /// Calls `each` with what is to be written for the event.
    pub fn event(&mut self, event: EventRef<'_>, mut each: impl FnMut(Piece<'_>)) {
        let run = self.runs.get(&key(event.route(), event.id())).copied().unwrap_or_default();
        if let Some(file) = event.file() {
            let test = folder(event.route(), event.id(), run);
            let open = self.open.entry(test.as_str().into()).or_default();
            let name = component(file.name, ATTACHMENT);
            let (begun, append) = open.takes(&name, event.eof());
            each(Piece { path: &format!("{test}/{name}{}", numbered(begun)), bytes: file.bytes, append });
        }
        if let Some(record) = self.records.event(event) {
            self.ended(&record, run, &mut each);
        }
    }

    /// The stream has ended: calls `each` with what is told of tests that have not.
    pub fn finish(mut self, mut each: impl FnMut(Piece<'_>)) {
        let records = std::mem::take(&mut self.records);
        for record in records.finish().unfinished {
            let run =
                self.runs.get(&key(record.route.as_deref(), Some(&record.id))).copied().unwrap_or_default();
            self.ended(&record, run, &mut each);
        }
    }

    fn ended(&mut self, record: &Record, run: u32, each: &mut impl FnMut(Piece<'_>)) {
        let test = folder(record.route.as_deref(), Some(&record.id), run);
        self.open.remove(test.as_str());
        each(Piece { path: &format!("{test}/test.json"), bytes: &about(record), append: false });
        let key = key(record.route.as_deref(), Some(&record.id));
        if self.runs.len() < TESTS_MAX || self.runs.contains_key(&key) {
            let run = self.runs.entry(key).or_default();
            *run = run.saturating_add(1);
        }
    }
}

impl Open {
    /// How often that file has begun before this piece, and whether the piece goes on with it.
    fn takes(&mut self, name: &str, ends: bool) -> (u32, bool) {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(name) {
            return (0, true);
        }
        let written = self.files.entry(name.into()).or_default();
        let append = written.begun > 0 && !written.ended;
        written.begun += u32::from(!append);
        written.ended = ends;
        (written.begun - 1, append)
    }
}

fn key(route: Option<&str>, id: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (route, id).hash(&mut hasher);
    hasher.finish()
}

/// The folder of a test, or of what belongs to none.
fn folder(route: Option<&str>, id: Option<&str>, run: u32) -> String {
    let at = route.map_or(String::new(), |route| format!("~at-{}/", component(route, &[])));
    match id {
        Some(id) => format!("{at}{}{}", component(id, &[]), numbered(run)),
        None => format!("{at}~run"),
    }
}

/// What tells one of several of the same name from the first.
fn numbered(before: u32) -> String {
    if before == 0 { String::new() } else { format!("~n{}", u64::from(before) + 1) }
}

/// What is known of a test when it has ended.
#[derive(Serialize)]
struct About<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    status: &'a str,
    #[serde(serialize_with = "json::time", skip_serializing_if = "Option::is_none")]
    start: Option<Timestamp>,
    #[serde(serialize_with = "json::time", skip_serializing_if = "Option::is_none")]
    stop: Option<Timestamp>,
    tags: &'a BTreeSet<Box<str>>,
    files: Vec<File<'a>>,
}

#[derive(Serialize)]
struct File<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime: Option<&'a str>,
    bytes: u64,
}

fn about(record: &Record) -> Vec<u8> {
    let status = record.status.filter(|status| status.is_final());
    let files = record.attachments.iter().map(|file| File {
        name: &file.name,
        mime: file.mime.as_deref(),
        bytes: file.kept.total(),
    });
    let about = About {
        id: &record.id,
        route: record.route.as_deref(),
        status: status.map_or("unfinished", Status::as_str),
        start: record.start,
        stop: record.stop,
        tags: &record.tags,
        files: files.collect(),
    };
    let mut out = Vec::new();
    json::put(&about, &mut out);
    out
}
